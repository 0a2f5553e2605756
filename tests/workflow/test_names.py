"""Odd but allowed names and paths go through the rules' shells as they are."""


def test_names_of_slides_and_paths_reach_no_shell_unquoted(study):
    rows = study.rows
    odd = "a b;$(touch pwned) `touch pwned` 'ü\" & x.png"
    (study.path / "U1.png").rename(study.path / odd)
    rows[2] |= {"slide": "Müller-1", "patient": "患者1", "path": odd}
    study.write(study.config, rows)
    study.run()
    patches = {path.name for path in (study.path / "results/tiny/patches").iterdir()}
    assert {"Müller-1.h5", "A1.h5"} <= patches
    assert not list(study.path.rglob("pwned"))
