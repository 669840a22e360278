"""What a virtual router is told and what it asks for: events in, commands out, all of them frozen values.

Events are facts (an advertisement passed its checks, a timer ran out, the other node said something); commands are IO
to be done in the order of their list. Who decides: `machine.py`. Who does it: the runtime, which never decides.
Times are of a clock that cannot jump; durations are seconds. Names are those of RFC 9568 §6.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.units import MonoTime

Address = IPv4Address | IPv6Address
Vip = IPv4Interface | IPv6Interface  # a virtual address with its prefix length

OWNER = 255  # priority of the owner of the addresses, RFC 9568 §5.2.4
LET_GO = 0  # priority that says "I stopped being Active"


class Family(IntEnum):
    IPV4 = 4
    IPV6 = 6


class State(Enum):
    INITIALIZE = "initialize"
    BACKUP = "backup"
    ACTIVE = "active"


class Form(Enum):
    """How the checksum of a version 3 advertisement over IPv4 is made; RFC 5798 was read both ways."""

    MESSAGE = "rfc9568"  # over the message alone, RFC 9568 §5.2.8
    PSEUDO = "pseudo"  # with the pseudo-header, as keepalived does


class Path(Enum):
    """Where the link to another node runs."""

    NONE = "none"  # it speaks VRRP only
    SAME = "same"  # over the interface and subnet of the virtual addresses
    OTHER = "other"  # elsewhere: its life says nothing about the way to the clients


class Fitness(IntEnum):
    """What a node can do for clients, worst first."""

    UNFIT = 0  # nobody would answer: no live worker, listener gone
    LISTENING = 1  # listeners answer; the origins are ill or not known yet
    SERVING = 2  # listeners answer and the origins were seen well


@dataclass(frozen=True, slots=True)
class Node:
    """Another machine that may be Active for the same addresses."""

    name: str
    address: Address | None = None  # None: IPv6, told over the link (PeerWord.source)
    priority: int | None = None  # as configured, so that a lower one in its advertisements is known as degraded
    path: Path = Path.SAME


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """One virtual router on this node; its key is (interface, vrid, family). Durations are seconds."""

    interface: str
    vrid: int
    family: Family
    addresses: tuple[Vip, ...]  # in the order of the file: the order in the advertisement
    node: str  # our own name
    source: Address  # IPv4: the interface's primary address; IPv6: its link-local address
    nodes: tuple[Node, ...] = ()  # the others
    priority: int = 250
    interval: float = 1.0
    version: int = 3
    checksum: Form = Form.MESSAGE  # sent until another node is heard; the one heard last, if a state file knows it
    preempt: bool = False
    preempt_delay: float = 0.0  # counts from when the node can serve
    service_patience: float = 0.0  # how long another must have been less healthy, if our own origins were not looked at
    garp_refresh: float = 30.0  # 0: off
    link_settle: float = 0.2  # of good carrier before we listen again
    group: str = ""  # routers of one group move together
    digest: str = ""  # of the configuration of the pair, to see drift

    @property
    def key(self) -> tuple[str, int, Family]:
        return self.interface, self.vrid, self.family

    @property
    def is_owner(self) -> bool:
        return self.priority == OWNER


class Say(Enum):
    """What a word on the link asks or answers, beside the state that every word carries."""

    NOTHING = "nothing"
    READY = "ready"  # I am better and can serve: resign to me
    RESIGN = "resign"  # I have let go; the node named in `to` shall claim
    HAVE = "have"  # I have claimed what was given to me
    LET_GO = "let-go"  # I do not see you on the clients' network: please let go


@dataclass(frozen=True, slots=True)
class PeerWord:
    """What a node says of itself on the authenticated link, for one virtual router."""

    node: str  # who speaks
    vrid: int
    family: Family
    state: State
    priority: int  # effective
    fitness: Fitness
    incarnation: int  # rises at each start and each claim
    source: Address  # where its advertisements come from
    interval: float
    addresses: tuple[Vip, ...] = ()
    reasons: tuple[str, ...] = ()  # why the priority is what it is
    digest: str = ""
    say: Say = Say.NOTHING
    to: str = ""  # the node that `say` is meant for


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict of `health.py` on this node."""

    priority: int  # effective, 1..254; an owner keeps 255
    fitness: Fitness
    reasons: tuple[str, ...] = ()


# ---- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Startup:
    """Begin: addresses of an earlier life are removed, the sockets are open."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """End in good order, at the instant that suits the requests in flight. `Stopped` tells when we may go."""


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """An advertisement of another node that passed the checks of `packet.py`."""

    node: str
    source: Address
    priority: int
    interval: float
    arrived: MonoTime  # by the kernel's stamp, not when we read it
    form: Form | None = None  # of its checksum, where there are two


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The deadline has come. Before it is told, socket, link and netlink are drained: what waits there may cancel it.

    Told too early or without need it changes nothing.
    """


@dataclass(frozen=True, slots=True)
class Suspended:
    """The machine slept (CLOCK_BOOTTIME went on while CLOCK_MONOTONIC stood): no old timer can be trusted."""


@dataclass(frozen=True, slots=True)
class HealthChanged:
    health: Health


@dataclass(frozen=True, slots=True)
class InterfaceChanged:
    """Carrier, or the interface itself, came or went."""

    up: bool


@dataclass(frozen=True, slots=True)
class PeerSaid:
    word: PeerWord


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The link to a node is gone. `ended`: by reset or end of file, so this incarnation of it is over."""

    node: str
    ended: bool


@dataclass(frozen=True, slots=True)
class VipChanged:
    """Somebody else added or removed one of the addresses on our interface."""

    vip: Vip
    present: bool


@dataclass(frozen=True, slots=True)
class ConflictSeen:
    """ARP or NA by another MAC claims one of the addresses. `node`: whose MAC it is, empty if no node's."""

    vip: Vip
    mac: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class ProbeDone:
    """The answer to `Probe`: did anybody on the clients' network answer for the addresses?"""

    answered: bool


@dataclass(frozen=True, slots=True)
class OriginsSeen:
    """The answer to `LookAtOrigins`: are those that were good still good, by checks begun no earlier than `asked`?"""

    good: bool
    asked: MonoTime


@dataclass(frozen=True, slots=True)
class HandoverAsked:
    """An operator wants another node to be Active; empty `to`: the best."""

    to: str = ""


@dataclass(frozen=True, slots=True)
class QuietCame:
    """The instant that suits the requests in flight, which AwaitQuiet asked for; or it did not come in time."""

    to: str


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """A reload: the same key, other values."""

    config: RouterConfig


@dataclass(frozen=True, slots=True)
class CommandFailed:
    """IO that did not happen. A failed AddVip ends its list: what follows it has not been tried."""

    command: Command
    reason: str


@dataclass(frozen=True, slots=True)
class GroupMayClaim:
    """Every member of the group may be Active: claim."""


@dataclass(frozen=True, slots=True)
class GroupMustLeave:
    """Another member of the group is not Active any more."""

    why: str


Event = (
    Startup
    | Shutdown
    | AdvertReceived
    | TimerFired
    | Suspended
    | HealthChanged
    | InterfaceChanged
    | PeerSaid
    | PeerLost
    | VipChanged
    | ConflictSeen
    | ProbeDone
    | OriginsSeen
    | HandoverAsked
    | QuietCame
    | Reconfigured
    | CommandFailed
    | GroupMayClaim
    | GroupMustLeave
)

# ---- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendAdvert:
    priority: int
    form: Form = Form.MESSAGE


@dataclass(frozen=True, slots=True)
class AddVip:
    """The address on the interface, for `lifetime` whole seconds: the kernel removes it when nobody refreshes it."""

    vip: Vip
    lifetime: int


@dataclass(frozen=True, slots=True)
class RefreshVip:
    """The same address for another lifetime; it is there already."""

    vip: Vip
    lifetime: int


@dataclass(frozen=True, slots=True)
class DelVip:
    """The address off the interface; one that is not there is no failure."""

    vip: Vip


@dataclass(frozen=True, slots=True)
class SendGarp:
    """One gratuitous ARP, or for IPv6 one unsolicited neighbour advertisement (RFC 9568 §6.4.1)."""

    vip: Vip


@dataclass(frozen=True, slots=True)
class Tell:
    """`VirtualRouter.word(say, to)` at once on the link to every node."""

    say: Say = Say.NOTHING
    to: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask by ARP/NS for the addresses on the clients' network, twice in 20 ms; the answer is ProbeDone."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class LookAtOrigins:
    """Another node lost something: have we got it still? Checks are made now; the answer is OriginsSeen."""


@dataclass(frozen=True, slots=True)
class AwaitQuiet:
    """This node should have the addresses, and nothing hurries: the answer is QuietCame."""

    to: str


class Loud(Enum):
    """What an operator has to hear of; also the label of a counter."""

    LINK_LOST = "link-lost"
    FILTERED = "adverts-filtered"
    CONTRADICTED = "contradicted"
    SPLIT = "split-brain"
    CONFLICT = "address-conflict"
    TWO_OWNERS = "two-owners"
    LONG_INTERVAL = "long-interval"
    VIP_REMOVED = "address-removed"
    VIP_FOREIGN = "address-unexpected"
    CANNOT_ADD = "cannot-add-address"
    CANNOT_SEND = "cannot-send"
    UNFIT = "unfit"
    LATE = "late"
    REFUSED = "refused"
    DRIFT = "configuration-drift"


@dataclass(frozen=True, slots=True)
class Shout:
    """One loud line; the runtime limits how often the same one is written."""

    what: Loud
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """The state has changed: for the log, the metrics and notify scripts."""

    old: State
    new: State
    why: str


@dataclass(frozen=True, slots=True)
class SplitEnded:
    """Two were Active for `seconds`, as far as we know."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing more is to be done: the process may end."""


Command = (
    SendAdvert
    | AddVip
    | RefreshVip
    | DelVip
    | SendGarp
    | Tell
    | Probe
    | LookAtOrigins
    | AwaitQuiet
    | Shout
    | Changed
    | SplitEnded
    | Stopped
)
