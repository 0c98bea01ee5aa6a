"""Records for the registry of DP deployments (OpenDP), one for guarantee A and one for B, complete for tier 3.

A record holds one privacy unit, so there is no record for C. The form is that of the registry's schema in the middle of
2026 (``tests/shared/audit/deployments-schema.yaml`` names the commit); a record is a draft until its authors send it in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from homespun.audit.rounding import short

__all__ = ["NAMES", "record", "registry_texts"]

NAMES = {"A": "registry-backbone.yaml", "B": "registry-adapter.yaml"}
_NOT_SAID = "Not declared."
_CURATOR_TYPES = ("Government", "Industry", "Nonprofit")


def registry_texts(report: Mapping[str, Any]) -> dict[str, str]:
    """File name and text of each record that the report supports: guarantees that are bounded."""
    return {
        NAMES[name]: yaml.safe_dump(record(report, name), sort_keys=False, allow_unicode=True, width=110)
        for name in NAMES
        if name in report["guarantees"] and report["guarantees"][name]["epsilon"] is not None
    }


def record(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One record.

    Args:
        report: What `homespun.audit.report.build_report` returns.
        name: ``A`` or ``B``.
    """
    one, said = report["guarantees"][name], report["declared"]["texts"]
    role = "backbone" if name == "A" else "adapter"
    adjacency = next((row for row in report["unit_and_adjacency"] if row["guarantee"] == role), None)
    title = said.get("name", report["identity"]["name"])
    return {
        "url_slug": re.sub(r"[^a-z0-9]+", "-", f"{title} {role}".lower()).strip("-"),
        "deployment": {
            "basic": _basic(report, title, name),
            "dp_variant": {
                "variant_name": "Approximate DP",
                "data_domain": "Preferences (choices and votes) that people gave on their own devices.",
                "unprotected_quantities": "; ".join(adjacency["unprotected"]) if adjacency else _NOT_SAID,
            },
            "privacy_loss": _loss(one, adjacency),
            "deployment_model": _model(report, one, name),
            "implementation": _implementation(report, one, name),
            "administrative": {
                "evidence_sources": {
                    "signed_ledger": {
                        "evidence_source_type": "Authorized organizational attestation",
                        "misc": {
                            "title": "Signed ledger of privacy spends and its audit report",
                            "note": "; ".join(f"{row['origin']}, root {row['root']}" for row in report["ledgers"]),
                            "year": report["identity"]["last"][:4],
                        },
                    }
                },
                "status": "Draft",
                "registry_authors": _list(said.get("registry-authors", said.get("curators", _NOT_SAID))),
                "tier": 3,
            },
        },
    }


def _basic(report: Mapping[str, Any], title: str, name: str) -> dict[str, Any]:
    said = report["declared"]["texts"]
    kind = said.get("curator-type", "")
    what = "the shared backbone" if name == "A" else "each person's own adapter"
    return {
        "name": f"{title}: {what}",
        "data_curators": [
            {
                "data_curator_name": curator,
                "data_curator_type": kind if kind in _CURATOR_TYPES else "Industry",
            }
            for curator in _list(said.get("curators", _NOT_SAID))
        ],
        "description": f"A preference model that is personalised on the device; this record is about {what}.",
        "intended_use": said.get("purpose", _NOT_SAID),
        "data_product_type": "Machine learning model",
        "data_product_region": said.get("region", _NOT_SAID),
        "publication_date": report["identity"]["first"][:10],
    }


def _loss(one: Mapping[str, Any], adjacency: Mapping[str, Any] | None) -> dict[str, Any]:
    parts = [one["claim"], one["kept"]["sentence"] if "kept" in one else "", one["test"]]
    if one.get("mu") is not None:
        parts.append(f"mu = {short(one['mu'])} (Gaussian DP, continuous equivalent).")
    if one.get("rho") is not None:
        parts.append(f"rho = {one['rho']} (zCDP).")
    parts += [
        f"epsilon = {short(point['epsilon'])} at delta = {short(point['delta'])} ({point_words(one)})."
        for point in one["points"]
        if point["epsilon"] is not None
    ]
    return {
        "privacy_unit": "One device" if one["privacy_unit"] == "device" else "One preference (one choice or one vote)",
        "privacy_unit_details": adjacency["meaning"] if adjacency else _NOT_SAID,
        "privacy_parameters": {"epsilon": one["epsilon"], "delta": one["delta"]},
        "privacy_parameters_details": " ".join(part for part in parts if part),
    }


def point_words(one: Mapping[str, Any]) -> str:
    """Unit and relation that every epsilon stands with."""
    return f"one {one['privacy_unit']}, {one['neighboring_relation']}"


def _model(report: Mapping[str, Any], one: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        "model_name": "Federated" if name == "A" else "Local",
        "model_name_details": _model_words(report) if name == "A" else " ".join(one["assumed"]),
        "trust_assumptions": " ".join(one["assumed"]),
        "actors": f"Claimed against {one['adversary']}. {' '.join(report['not_claimed'])}",
        "release_type": "Many releases",
        "release_type_details": report["composition"]["refits"],
        "data_source_type": "Dynamic",
        "data_source_type_details": report["declared"]["texts"].get("data-refresh", _NOT_SAID),
        "access_type": "Non-interactive",
        "access_type_details": "Nobody queries devices; releases follow a plan or an owner's policy.",
    }


def _model_words(report: Mapping[str, Any]) -> str:
    """Who adds noise to what, and whether secure aggregation lies between a device and the server."""
    masks = report["trust"]["masks"]
    if masks is None:
        return "Devices send clipped vectors; the server adds the noise to their sum."
    if report["identity"]["holder"] == "device":
        return "Devices add noise and send masked vectors alone (secure aggregation)."
    counted = f"{masks['masked']} of {masks['rounds']} rounds were unmasked as sums (secure aggregation)"
    return f"Devices add the noise before they send; {counted}."


def _implementation(report: Mapping[str, Any], one: Mapping[str, Any], name: str) -> dict[str, Any]:
    said = report["declared"]["texts"]
    software = ", ".join(f"{package} {version}" for package, version in report["identity"]["software"].items())
    role = "backbone" if name == "A" else "adapter"
    rows = [row for row in report["mechanisms"] if row["guarantee"] == role and row["distribution"] != "none"]
    noise = "; ".join(
        f"{row['phase'] or 'block'}: {row['releases']} releases, noise {short(row['noise_multiplier'])} times the "
        f"sensitivity, dimension {row['dimension']}"
        for row in rows
    )
    hazards = " ".join(f"{row['hazard'].capitalize()}: {row['measure']}" for row in report["hazards"])
    composition = report["composition"]
    return {
        "preprocessing_and_hyperparameter_tuning": said.get("tuning", _NOT_SAID),
        "mechanisms": f"Discrete Gaussian on integer sums. {noise or 'As planned'}. Software: {software or _NOT_SAID} {hazards}",
        "composition": f"{composition['within']} {composition['blocks'] if name == 'B' else ''} {one['accountant']}.",
        "post_processing": " ".join(report["post_processing"]),
        "justification": said.get("justification", _NOT_SAID),
        "utility": said.get("utility", _NOT_SAID),
        "additional_information": said.get("code", _NOT_SAID),
    }


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()] or [_NOT_SAID]
