"""What failed in a run is said in the jobs' own words, once."""

from stedm.failures import explain, last_words

LOG = """\
Error in rule check:
    message: None
    jobid: 0
    output: check.csv
    log: {0}/check.log, {0}/check.csv (check log file(s) for error details)
    shell:
        stedm check --options '{{"a": 1}}'

Error in rule extract_patches:
    jobid: 3
    log: {0}/S1.log (check log file(s) for error details)
Error in rule extract_patches:
    jobid: 4
    log: {0}/S2.log (check log file(s) for error details)
Error in rule train_generator:
    jobid: 5
    log: {0}/killed.log (check log file(s) for error details)
"""


def test_messages_are_said_once_and_equal_ones_together(tmp_path):
    wrong = "slide 'S{0}' (x/S{0}.png): no resolution. Give it"
    (tmp_path / "check.log").write_text("10:00:00 2 error\n2 slides: S1, S2: no resolution. Give it\n")
    (tmp_path / "check.csv").write_text("slide\nS1\n")
    for number in (1, 2):
        (tmp_path / f"S{number}.log").write_text(f"10:00:01 starting\n{wrong.format(number)}\n")
    (tmp_path / "killed.log").write_text("10:00:00 step 3\n")
    assert explain(LOG.format(tmp_path)) == [
        "check:",
        "  2 slides: S1, S2: no resolution. Give it",
        "train_generator: ended without a message; was it stopped, or out of memory?",
        *(f"Log: {tmp_path}/{name}" for name in ("check.log", "check.csv", "S1.log", "S2.log", "killed.log")),
    ]


def test_a_traceback_is_shown_by_its_end(tmp_path):
    lines = ["Traceback (most recent call last):", *(f"  line {n}" for n in range(40)), "ValueError: wrong"]
    (tmp_path / "a.log").write_text("10:00:00 begun\nslides:  50%|█ | 1/2\n" + "\n".join(lines))
    (words,) = last_words(tmp_path / "a.log")
    assert words.splitlines()[-1] == "ValueError: wrong"
    assert len(words.splitlines()) == 15


def test_a_run_without_failed_jobs_has_nothing_to_say():
    assert explain("Finished job 0.\n") == []
