"""Changes to files, for the tests of what then happens."""

import contextlib

import h5py

from stedm.hdf5 import ATTRIBUTES, SEAL, close_with_seal


@contextlib.contextmanager
def edited(path):
    """An HDF5 file of ours open for changes, sealed again afterwards as if it had been written so."""
    with h5py.File(path, "a") as file:
        yield file
        del file[ATTRIBUTES], file[SEAL]
        close_with_seal(file)


def flip(path, place, bit=0):
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)
