"""What one slide or one odd name does to a study: nothing to the others, and nothing to the shell."""


def test_one_slide_that_fails_does_not_stop_the_others_and_the_exit_status_tells(study):
    stub = study.path / "stedm"
    fail = """case "$*" in "patches extract"*'"slide": "U1"'*) echo "slides.csv: U1 is wrong" >&2; exit 2 ;; esac\n"""
    stub.write_text(stub.read_text().replace("command=", f"{fail}command=", 1))
    done = study.snakemake("--configfile", "study.yaml")
    assert done.returncode == 1
    assert "slides.csv: U1 is wrong" in done.stdout + done.stderr
    patches = {path.stem for path in (study.path / "results/tiny/patches").iterdir()}
    assert patches == {row["slide"] for row in study.rows} - {"U1"}
    assert not (study.path / "results/tiny/splits").exists()  # which would lack a slide


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
