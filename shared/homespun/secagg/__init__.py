"""Masked sums with dropout recovery: a server learns the sum of many vectors and of no fewer.

Pure state machines, no transport: `Client` for a party, `Server` for whoever adds up, messages of fixed layout between
them. `Terms` say what is summed and among whom, and cannot be made if they are not sound. It is a library of its own: it
knows nothing of the rest of homespun.

>>> import numpy as np
>>> identities = [Identity.generate() for _ in range(4)]
>>> terms = Terms.of(context=bytes(32), dimension=3, roster=tuple(key.public for key in identities), min_survivors=4)
>>> server, clients = Server(terms), [Client(terms, key) for key in identities]
>>> for client in clients:
...     server.receive(client.advert)
>>> adverts = server.close_adverts()
>>> for client in clients:
...     server.receive(client.share(adverts))
>>> inboxes = server.close_shares()
>>> for client in clients:
...     server.receive(client.mask(np.array([client.index, 1, 2**31], dtype=np.uint32), inboxes[client.index]))
>>> survivors = server.close_masked()
>>> for client in clients:
...     server.receive(client.consent(survivors))
>>> _ = server.close_consents()
>>> for client in clients:
...     server.receive(client.reveal(server.reveal_request(client.index)))
>>> server.close()
array([6, 4, 0], dtype=uint32)

`rehearse` does the same with parties that drop out. `docs/secagg.md` is the guide, `docs/design/12-secure-aggregation.md`
has the threat model, the derivations and the proofs.
"""

from homespun.secagg.client import Client
from homespun.secagg.errors import Aborted, Fault, Refused, SecAggError, Stage
from homespun.secagg.identity import Identity
from homespun.secagg.messages import (
    Ack,
    Advert,
    Adverts,
    Consent,
    Inbox,
    Kind,
    MaskedVector,
    Note,
    Revealed,
    RevealRequest,
    Sealed,
    SealedShares,
    Share,
    Survivors,
)
from homespun.secagg.rehearsal import Outcome, rehearse
from homespun.secagg.server import Server
from homespun.secagg.shape import Shape, choose_shape
from homespun.secagg.terms import Terms

__all__ = [
    "Aborted",
    "Ack",
    "Advert",
    "Adverts",
    "Client",
    "Consent",
    "Fault",
    "Identity",
    "Inbox",
    "Kind",
    "MaskedVector",
    "Note",
    "Outcome",
    "Refused",
    "RevealRequest",
    "Revealed",
    "Sealed",
    "SealedShares",
    "SecAggError",
    "Server",
    "Shape",
    "Share",
    "Stage",
    "Survivors",
    "Terms",
    "choose_shape",
    "rehearse",
]
