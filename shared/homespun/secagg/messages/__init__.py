"""What parties and server say to each other: fixed layouts, read in one way only.

Every class is sound by construction: making or decoding one that is not raises `Refused` with `Fault.MALFORMED`. Whole
numbers are 32-bit, keys and field elements 32 bytes, all little-endian. Lists of parties rise strictly, so that a list has
one spelling. Nothing is said about who may send what: that is for `Client` and `Server`.

=================  =====================================================================================  =========
message            layout                                                                                 to
=================  =====================================================================================  =========
`Advert`           index ‖ mask key ‖ seal key ‖ commitment ‖ signature (64)                              server
`Adverts`          adverts, one after the other                                                           parties
`SealedShares`     sender ‖ count ‖ (to ‖ box (80) ‖ check of mask share (16) ‖ check of self share (16))*  server
`Inbox`            to ‖ count ‖ (sender ‖ box (80))*                                                      party
`MaskedVector`     travels as an array of uint32, and acks: (to ‖ tag (16))*                               server
`Survivors`        count ‖ index*                                                                         committee
`Consent`          sender ‖ signature (64)                                                                server
`RevealRequest`    survivors ‖ count ‖ consent* ‖ dropped ‖ count ‖ (sender ‖ tag (16))*                   survivors
`Revealed`         sender ‖ count ‖ (dealer ‖ kind (1) ‖ share)*                                          server
=================  =====================================================================================  =========

>>> Survivors(indices=(0, 2, 3)).encode().hex()
'03000000000000000200000003000000'
"""

from homespun.secagg.messages.acks import TAG_BYTES, Ack, read_acks, write_acks
from homespun.secagg.messages.from_party import (
    BOX_BYTES,
    CHECK_BYTES,
    Advert,
    Consent,
    Kind,
    MaskedVector,
    Message,
    Revealed,
    Sealed,
    SealedShares,
    Share,
)
from homespun.secagg.messages.from_server import Adverts, Inbox, Note, RevealRequest, Survivors
from homespun.secagg.shape import MAX_PARTIES

__all__ = [
    "BOX_BYTES",
    "CHECK_BYTES",
    "MAX_PARTIES",
    "TAG_BYTES",
    "Ack",
    "Advert",
    "Adverts",
    "Consent",
    "Inbox",
    "Kind",
    "MaskedVector",
    "Message",
    "Note",
    "RevealRequest",
    "Revealed",
    "Sealed",
    "SealedShares",
    "Share",
    "Survivors",
    "read_acks",
    "write_acks",
]
