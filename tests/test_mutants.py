"""Each mutant of the sources turns its test red; the whole table takes minutes."""

import subprocess
import sys

import pytest
from mutants import MUTANTS, ROOT, planted, table, verdict


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_made(mutant):
    assert mutant.source.count(mutant.old) == 1
    assert mutant.old != mutant.new


def test_the_mutants_are_many_and_their_tests_exist():
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS) >= 25
    tests = {f"tests/{mutant.test}" for mutant in MUTANTS}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", *tests]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.slow
def test_the_tests_are_green_without_a_mutant(tmp_path):
    assert verdict(planted(tmp_path), *{mutant.test for mutant in MUTANTS})[0] == "green"


@pytest.fixture(scope="module")
def results(request):
    rows = []
    yield rows
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + table(rows))


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_turns_its_test_red(mutant, tmp_path, results):
    found, seconds = verdict(planted(tmp_path, mutant), mutant.test)
    results.append((mutant, found, seconds))
    assert found == "red"
