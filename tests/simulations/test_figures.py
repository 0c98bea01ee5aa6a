import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from homespun.simulations.canvas import canvas, label_ends, to_svg
from homespun.simulations.figures import accuracy_against_epsilon, draw
from homespun.simulations.recorded import read

write_run = runpy.run_path(str(Path(__file__).parent / "made_up_run.py"))["write_run"]
ALL = {"few-shot", "adapters", "people", "privacy", "budget", "calibration", "training"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "run")
    return tmp_path / "run"


def words(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_every_figure_is_drawn_and_written(run: Path) -> None:
    figures = draw(read(run))
    assert {figure.name for figure in figures} == ALL
    assert {path.stem for path in (run / "figures").glob("*.svg")} == ALL
    for figure in figures:
        ElementTree.fromstring(figure.svg)  # well formed
        assert figure.caption.endswith(".")


def test_compared_systems_get_a_figure(tmp_path: Path) -> None:
    write_run(tmp_path / "run", compare=True)
    (others,) = [figure for figure in draw(read(tmp_path / "run")) if figure.name == "others"]
    assert {"Ditto", "FedRep", "LoRe", "LoRe, repaired"} <= set(words(others.svg))


def test_reproducible(run: Path, tmp_path: Path) -> None:
    first = {figure.name: figure.svg for figure in draw(read(run))}
    second = {figure.name: figure.svg for figure in draw(read(run), folder=tmp_path / "again")}
    assert first == second


def test_ids_do_not_clash_in_one_page(run: Path) -> None:
    ids = [name for figure in draw(read(run)) for name in re.findall(r'\bid="([^"]+)"', figure.svg)]
    assert len(ids) == len(set(ids))


def test_text_stays_text_and_nothing_is_fetched(run: Path) -> None:
    for figure in draw(read(run)):
        assert words(figure.svg)
        assert "<image" not in figure.svg
        assert not re.findall(r'(?:href|src)="(?!#)[^"]*"', figure.svg)
        assert not re.findall(r"url\((?!#)", figure.svg)
        assert "20" + "26-" not in figure.svg and "<metadata" not in figure.svg  # no date


def test_few_shot_names_controls_and_optimum(run: Path, tmp_path: Path) -> None:
    names = {figure.name: words(figure.svg) for figure in draw(read(run))}["few-shot"]
    assert {"personal, exact", "global", "another user's", "shuffled labels", "planted truth"} <= set(names)
    write_run(tmp_path / "found", planted=False)
    names = {figure.name: words(figure.svg) for figure in draw(read(tmp_path / "found"))}["few-shot"]
    assert "planted truth" not in names


def test_people_states_the_shares(run: Path) -> None:
    recorded = read(run)
    difference = recorded.evaluation["accuracy.personal"][-1] - recorded.evaluation["accuracy.global"][-1]
    better = float(np.mean(difference > 2 * 0.025))
    (people,) = [figure for figure in draw(recorded) if figure.name == "people"]
    assert f"{100 * better:.0f} % better" in words(people.svg)


def test_thousands_of_people_stay_small(tmp_path: Path) -> None:
    write_run(tmp_path / "run", people=5000)
    assert all(len(figure.svg) < 60_000 for figure in draw(read(tmp_path / "run")))


def test_no_training_figure_for_two_rounds(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:2]) + "\n")
    assert "training" not in {figure.name for figure in draw(read(run))}


def test_accuracy_against_epsilon_over_runs(tmp_path: Path) -> None:
    summaries = [write_run(tmp_path / str(e), epsilon=e) for e in (0.5, 2.0, None)]
    told = words(accuracy_against_epsilon(summaries))
    assert {"0.5", "2", "∞"} <= set(told)
    with pytest.raises(ValueError, match="in common"):
        accuracy_against_epsilon([{"accuracy": {"5": {}}}, {"accuracy": {"6": {}}}])


def test_missing_numbers_leave_a_gap_not_an_error(run: Path) -> None:
    recorded = read(run)
    for name in ("accuracy.personal", "standard_error.personal"):
        recorded.evaluation[name][:, :5] = np.nan
    recorded.summary["accuracy"]["5"]["personal"] = {"mean": None, "low": None, "high": None}
    assert {figure.name for figure in draw(recorded)} == ALL


def test_labels_do_not_overlap() -> None:
    with canvas() as (drawing, (axes,)):
        axes.set_ylim(0, 1)
        axes.set_xlim(0, 1)
        ends = [
            (0.99, "a", "k"),
            (0.985, "b", "k"),
            (0.98, "c", "k"),
            (0.2, "d", "k"),
            (0.01, "e", "k"),
            (0.0, "f", "k"),
        ]
        placed = sorted(label.xy[1] for label in label_ends(axes, ends, x=1.0, gap=0.06))
        assert min(np.diff(placed)) >= 0.06 - 1e-9
        assert placed[0] >= 0 and placed[-1] <= 1
        svg = to_svg(drawing, name="n", title='<b> & "c"')
    assert 'aria-label="&lt;b&gt; &amp; &quot;c&quot;"' in svg
