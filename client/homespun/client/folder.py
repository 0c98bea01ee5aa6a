"""A device's folder: made whole or not at all, held by one process, and compared with what others remember of it.

FOLDER/device              its random name
FOLDER/vault.sqlite        preferences, evidence, adapter, keys and the last vectors, all sealed
FOLDER/ledger-1.sqlite     what it spent on what left it (guarantee A), signed
FOLDER/adapter.sqlite      what its adapter spent on its records (guarantee B), signed
"""

import fcntl
import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from homespun import secagg
from homespun.client.errors import DeviceBusy, VaultOlder
from homespun.client.installation import Installation
from homespun.client.lineage import begin_first, sync
from homespun.client.spending import Spending
from homespun.client.vault import Identity, KeySource, Vault
from homespun.privacy import canonical_json
from homespun.privacy.ledger import SigningKey
from homespun.privacy.policy import Policy

__all__ = ["Opened", "make_folder", "open_folder"]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A folder that one process holds, until `closing` is closed."""

    name: str
    vault: Vault
    spending: Spending
    identity: secagg.Identity = field(repr=False)
    closing: ExitStack = field(repr=False)


def make_folder(folder: Path, source: KeySource, policy: Policy, around: Installation) -> None:
    """Make a device's folder, whole or not at all: a name, keys in a vault, and a ledger with the policy.

    Raises:
        FileExistsError: The folder is there.
    """
    if folder.exists():
        raise FileExistsError(f"Expected {folder} not to be there yet.")
    aside, name = folder.with_name(f".{folder.name}.part"), os.urandom(8).hex()
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700, parents=True)
    (aside / "device").write_text(name, encoding="ascii")
    key = SigningKey.generate(_key_name(name))
    with Vault.create(aside / "vault.sqlite", source, Identity(user=around.user, device=name)) as vault:
        identity = around.identity or secagg.Identity.generate()
        keys = {"signing": key.to_bytes().hex(), "commitment": os.urandom(32).hex()}
        keys["identity"] = identity.to_bytes().hex()
        vault.write("keys", canonical_json(keys).encode("ascii"))
    begin_first(aside, name, key, policy)
    aside.rename(folder)
    sync(folder.parent)


def open_folder(folder: Path, source: KeySource, around: Installation) -> Opened:
    """Hold a device's folder, open what is in it, and ask everybody who remembers it whether it is the newest.

    Raises:
        FileNotFoundError: There is no device.
        DeviceBusy: Another process has it open.
        VaultError: The key is wrong, or a sealed byte was changed.
        LedgerDamaged: An entry was edited, dropped or moved.
    """
    with ExitStack() as stack:
        stack.callback(os.close, _lock(folder))
        name = (folder / "device").read_text(encoding="ascii")
        mark = None if around.anchor is None else around.anchor.recall(name)
        who, path = Identity(user=around.user, device=name), folder / "vault.sqlite"
        try:
            vault, older = Vault.open(path, source, who, at_least=0 if mark is None else mark.vault), False
        except VaultOlder:
            vault, older = Vault.open(path, source, who), True
        stack.callback(vault.close)
        keys = {kind: bytes.fromhex(key) for kind, key in json.loads(vault.read("keys")).items()}
        key = SigningKey.from_bytes(_key_name(name), keys["signing"])
        spending = Spending(folder, name, key, keys["commitment"], around.witness)
        stack.callback(spending.close)
        spending.forked = spending.forked or older
        spending.compare(mark, vault.written_at)
        spending.ask_witness()
        identity = secagg.Identity.from_bytes(keys["identity"])
        return Opened(name=name, vault=vault, spending=spending, identity=identity, closing=stack.pop_all())


def _key_name(device: str) -> str:
    return f"homespun-device-{device}"


def _lock(folder: Path) -> int:
    if not (folder / "device").is_file():
        raise FileNotFoundError(f"Expected a device at {folder}.")
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DeviceBusy(f"Expected one process at a time on {folder}; another one has it open.") from None
    return handle
