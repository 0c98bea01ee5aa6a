"""The page: it stands alone, escapes, and is drawn the same everywhere."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from homespun.audit.drawing import Axis, Line, bars, dots, lines
from homespun.audit.page import render_page


def page(folder: Path) -> str:
    return (folder / "audit" / "report.html").read_text(encoding="utf-8")


def test_the_page_fetches_nothing_and_runs_nothing(run_folder: Path) -> None:
    text = page(run_folder)
    assert not re.search(r"<script|src=|@import|url\(|href=", text)
    assert "default-src 'none'" in text


def test_a_declared_text_is_text(run_folder: Path) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page(run_folder)


def test_the_page_follows_from_the_json_alone(device_folder: Path) -> None:
    report = json.loads((device_folder / "audit" / "report.json").read_text(encoding="utf-8"))
    assert render_page(report) == page(device_folder)


def test_odds_come_first_and_limits_before_details(device_folder: Path) -> None:
    text = page(device_folder)
    order = ["In plain words", "What is not claimed", "What was looked for", "The figures", "How to check this report"]
    places = [text.index(f">{title}<") for title in order]
    assert places == sorted(places)
    assert "as likely" in text[: places[1]]


def test_attacks_stand_beside_their_bounds(run_folder: Path) -> None:
    text = page(run_folder)
    assert "Membership in the backbone" in text
    assert "at most, by the claim" in text
    assert "0.033" in text


def test_every_picture_is_well_formed_and_named(device_folder: Path) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page(device_folder), flags=re.DOTALL)
    assert len(pictures) >= 8
    for picture in pictures:
        root = ET.fromstring(picture)
        assert root.get("aria-label")
        assert "nan" not in picture


def test_drawings_escape_and_stay_inside() -> None:
    axis = Axis(label="<a>", low=1e-4, high=1.0, log=True)
    drawn = lines("<t>", axis, Axis(label="y", low=0.0, high=2.0), [Line(name="<n>", points=[(0.0, -5.0), (9.0, 9.0)])])
    root = ET.fromstring(drawn)
    assert root.get("aria-label") == "<t>"
    assert axis.ticks() == [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    assert dots(101).count('class="dot on"') == 100
    assert "nan" not in bars("empty", "x", "y", [])


def test_releases_are_whole_numbers(run_folder: Path, device_folder: Path) -> None:
    """Three releases were ticked at every half."""
    for folder in (run_folder, device_folder):
        (picture,) = re.findall(
            r'<svg[^>]*aria-label="Epsilon [^"]*after each release of the backbone".*?</svg>', page(folder)
        )
        below = re.findall(r'y="270" text-anchor="middle">([^<]*)<', picture)
        assert len(below) >= 3
        assert all(tick.isdigit() for tick in below)
    for last in range(1, 600):
        ticks = Axis(label="releases", low=0.0, high=float(last), whole=True).ticks()
        assert all(tick == int(tick) for tick in ticks)
        assert len(ticks) >= 2
