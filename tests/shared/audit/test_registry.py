"""Records for the registry of deployments are valid against the pinned schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

SCHEMA = yaml.safe_load((Path(__file__).parent / "deployments-schema.yaml").read_text(encoding="utf-8"))


def problems(record: Any) -> list[str]:
    validator = Draft7Validator(SCHEMA, format_checker=Draft7Validator.FORMAT_CHECKER)
    return [error.message for error in validator.iter_errors(record)]


def read(folder: Path, name: str) -> Any:
    return yaml.safe_load((folder / "audit" / name).read_text(encoding="utf-8"))


def test_both_records_are_valid_and_of_one_unit(device_folder: Path, run_folder: Path) -> None:
    backbone, adapter = (read(device_folder, f"registry-{role}.yaml") for role in ("backbone", "adapter"))
    assert problems(backbone) == problems(adapter) == problems(read(run_folder, "registry-backbone.yaml")) == []
    units = [record["deployment"]["privacy_loss"]["privacy_unit"] for record in (backbone, adapter)]
    assert units == ["One device", "One preference (one choice or one vote)"]
    assert not (run_folder / "audit" / "registry-adapter.yaml").exists()


def test_a_record_is_complete_for_tier_3(run_folder: Path) -> None:
    record = read(run_folder, "registry-backbone.yaml")
    assert record["deployment"]["administrative"]["tier"] == 3
    properties = SCHEMA["properties"]["deployment"]["properties"]
    # the sector, the number of units and the model's free text are the deployers' to add
    left_out = {"data_product_sector", "number_of_privacy_units"}
    for part, schema in properties.items():
        missing = set(schema["properties"]) - set(record["deployment"][part]) - left_out
        assert not missing, part
        assert all(record["deployment"][part].values()), part


def test_what_was_declared_is_in_it(run_folder: Path) -> None:
    deployment = read(run_folder, "registry-backbone.yaml")["deployment"]
    curators = deployment["basic"]["data_curators"]
    assert [row["data_curator_name"] for row in curators] == ["Example Foundation", "Second Example"]
    assert {row["data_curator_type"] for row in curators} == {"Nonprofit"}
    assert isinstance(deployment["basic"]["publication_date"], str)
    assert deployment["privacy_loss"]["privacy_parameters"]["delta"] == 1e-6


@pytest.mark.parametrize(
    ("place", "value"),
    [("basic", {"surprise": 1}), ("dp_variant", {"variant_name": "Magic"}), ("administrative", {"tier": 4})],
)
def test_the_schema_refuses_what_it_does_not_know(run_folder: Path, place: str, value: dict[str, Any]) -> None:
    record = read(run_folder, "registry-backbone.yaml")
    record["deployment"][place] |= value
    assert problems(record)
