"""Slides that lie in S3, here in a stand-in for it: Snakemake fetches what its rules name as inputs."""

import pytest

boto3 = pytest.importorskip("boto3", reason="snakemake-storage-plugin-s3 is not installed")
moto = pytest.importorskip("moto.server", reason="moto is not installed")
pytest.importorskip("snakemake_storage_plugin_s3", reason="it is not installed")

KEYS = {"ACCESS_KEY": "somebody", "SECRET_KEY": "secret"}
FETCHED = ".snakemake/storage/s3/slides"
READS_SLIDES = f"""
case "$1 $2" in
    "check "* | "patches extract" | "evaluation score" | "figures maps")
        echo "$1 $2" >> read.txt
        [ -s {FETCHED}/A1.png ] && [ -s {FETCHED}/A1-mask.png ] || case "$*" in *A1*) exit 2 ;; esac ;;
esac
command="""


@pytest.fixture
def bucket(monkeypatch):
    """A bucket called slides; Snakemake's options name its server."""
    for name, value in KEYS.items():
        monkeypatch.setenv(f"SNAKEMAKE_STORAGE_S3_{name}", value)
        monkeypatch.setenv(f"AWS_{'ACCESS_KEY_ID' if name == 'ACCESS_KEY' else 'SECRET_ACCESS_KEY'}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    monkeypatch.setenv("SNAKEMAKE_STORAGE_S3_ENDPOINT_URL", endpoint)
    made = boto3.resource("s3", endpoint_url=endpoint).create_bucket(Bucket="slides")
    yield made
    server.stop()


@pytest.fixture
def in_bucket(study, bucket):
    """The small study, its slides and masks in the bucket and not on the disk; stages fail that miss a file."""
    rows = study.rows
    for row in rows:
        for column in ("path", "annotation"):
            name = row[column]
            bucket.put_object(Key=name, Body=b"of " + name.encode())
            (study.path / name).unlink()
            row[column] = f"s3://slides/{name}"
    stub = (study.path / "stedm").read_text()
    (study.path / "stedm").write_text(stub.replace("\ncommand=", READS_SLIDES, 1))
    study.write(study.config, rows)
    return study


def test_the_whole_study_runs_and_a_replaced_slide_is_cut_again(in_bucket, bucket):
    in_bucket.run()
    read = (in_bucket.path / "read.txt").read_text().splitlines()
    assert {line.partition(" --")[0] for line in read} == {
        "check",
        "patches extract",
        "evaluation score",
        "figures maps",
    }
    assert not in_bucket.jobs()
    bucket.put_object(Key="U1.png", Body=b"another scan")
    jobs = in_bucket.jobs()
    assert jobs["extract_patches"] == 1
    assert jobs["check"] == 1


def test_a_missing_slide_is_named_before_anything_runs(in_bucket, bucket):
    bucket.Object("U1.png").delete()
    answer = in_bucket.snakemake("--configfile", "study.yaml", "--dry-run")
    assert answer.returncode == 1
    assert "s3://slides/U1.png" in answer.stdout + answer.stderr
