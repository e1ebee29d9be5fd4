"""A cohort: a directed graph whose members are models and whose edges say who teaches whom.

Every method of Lee et al. (2023) is a cohort and nothing else:

    stand-alone            one trainable member
    one-way KD             teacher frozen       t->s           Eq. 1, 2
    co-training & one-way  both trainable       t->s           Eq. 2
    CTCD                   both trainable       t->s, s->t     Eq. 4 = (2) + (3)
    reversed KD            small one frozen     s->t           Eq. 3
    Community KD           teacher frozen       t->s1, t->s2, s1->s2, s2->s1   Eq. 5
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ctcd_jax.distill.signals import LOGITS, SIGNALS
from ctcd_jax.errors import did_you_mean
from ctcd_jax.ranges import SHARE, Range, require

DIVERGENCES = ("forward_kl", "reverse_kl", "jensen_shannon")
POSITIONS = ("masked", "attended")
SCHEDULES = ("constant", "linear", "cosine")

# 0 is none of it: no hard loss, no such edge. What is learnt is minimised, so no weight is negative.
MEMBER_RANGES = {"hard_weight": Range(0)}
EDGE_RANGES = {"weight": Range(0), "temperature": Range(0, above=True), "begin": SHARE, "end": SHARE}


@dataclass(frozen=True)
class Member:
    """A model of the cohort, as the loss sees it. Raises ValueError for a weight that is no weight.

    Attributes:
      trainable: False for a model that only teaches: no gradient, no hard loss, no dropout.
      hard_weight: weight of the member's own masked-language-model loss (alpha_h, beta_h of Eq. 2, 3); 0: none.
    """

    trainable: bool = True
    hard_weight: float = 1.0

    def __post_init__(self):
        require("member: ", self, MEMBER_RANGES)


@dataclass(frozen=True)
class Edge:
    """`source` teaches `target`: the target fits the source's predictions (or another signal), and no gradient reaches
    the source.

    Attributes:
      source: name of the member that teaches.
      target: name of the (trainable) member that learns.
      weight: of this soft loss (alpha_s, beta_s of Eq. 2, 3). An edge of weight 0 is not computed at all.
      temperature: tau, which divides both sides' logits.
      tau_squared: whether the loss is multiplied by tau^2, so that its gradient does not shrink with tau (Hinton 2015).
      divergence: "forward_kl" D(p_source, p_target), Eq. 1; "reverse_kl" D(p_target, p_source), Eq. 5 as printed;
        "jensen_shannon" (KL(p_source|m) + KL(p_target|m)) / 2 with m their mean. In nats.
      positions: "masked" (the predicted tokens, section 3) or "attended" (every real token, DistilBERT's script).
      signal: what is compared: "logits", which temperature, tau_squared, divergence and positions are about, or another
        that is entered in `signals.SIGNALS`.
      schedule: how the weight goes on from where it begins: "constant", or falling to 0 where it ends, "linear" or
        "cosine".
      begin: share of the run's steps before which nothing is taught.
      end: share of the run's steps after which nothing is taught.
    """

    source: str
    target: str
    weight: float = 1.0
    temperature: float = 1.0
    tau_squared: bool = False
    divergence: str = "forward_kl"
    positions: str = "masked"
    signal: str = LOGITS
    schedule: str = "constant"
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self):
        if self.source == self.target:
            raise ValueError(f"edge {self.name}: a member cannot teach itself")
        require(f"edge {self.name}: ", self, EDGE_RANGES)
        for name, known in (
            ("divergence", DIVERGENCES),
            ("positions", POSITIONS),
            ("signal", (LOGITS, *SIGNALS)),
            ("schedule", SCHEDULES),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"edge {self.name}: no {name} '{getattr(self, name)}'"
                                 + did_you_mean(str(getattr(self, name)), known))  # fmt: skip
        if self.begin >= self.end:
            raise ValueError(f"edge {self.name}: it begins at {self.begin:g} of the steps and ends at {self.end:g}; "
                             "let it end later")  # fmt: skip

    @property
    def scheduled(self) -> bool:
        """Whether its weight is another at some steps than at others."""
        return (self.schedule, self.begin, self.end) != ("constant", 0.0, 1.0)

    @property
    def name(self) -> str:
        """`source->target`, as in the metrics, and `source->target#signal` where that is not logits."""
        return f"{self.source}->{self.target}" + ("" if self.signal == LOGITS else f"#{self.signal}")


@dataclass(frozen=True)
class Cohort:
    """Members by name, and edges. Edges of weight 0 are dropped here, so nothing downstream ever sees one.

    Raises ValueError, with one line that names the edge or member, for a graph that cannot be trained.
    """

    members: Mapping[str, Member]
    edges: tuple[Edge, ...] = field(default=())

    def __post_init__(self):
        for edge in self.edges:
            for end in ("source", "target"):
                if getattr(edge, end) not in self.members:
                    hint = did_you_mean(str(getattr(edge, end)), self.members)
                    raise ValueError(f"edge {edge.name}: no member '{getattr(edge, end)}'{hint}")
            if not self.members[edge.target].trainable:
                raise ValueError(f"edge {edge.name}: '{edge.target}' is frozen and cannot learn")
        names = [edge.name for edge in self.edges]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"edge {name} is there {names.count(name)} times; give each pair one edge a signal")
        if not any(member.trainable for member in self.members.values()):
            raise ValueError("no member is trainable")
        object.__setattr__(self, "members", dict(self.members))
        object.__setattr__(self, "edges", tuple(edge for edge in self.edges if edge.weight != 0))

    def __hash__(self):
        return hash((tuple(self.members.items()), self.edges))

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the members that learn."""
        return tuple(name for name, member in self.members.items() if member.trainable)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the members that only teach."""
        return tuple(name for name, member in self.members.items() if not member.trainable)

    @property
    def logit_edges(self) -> tuple[Edge, ...]:
        """The edges that compare predictions."""
        return tuple(edge for edge in self.edges if edge.signal == LOGITS)

    @property
    def feature_edges(self) -> tuple[Edge, ...]:
        """The edges that compare something else."""
        return tuple(edge for edge in self.edges if edge.signal != LOGITS)

    @property
    def positions(self) -> str:
        """The tokens whose logits are needed: "attended" (every real one) if any edge asks for them, else "masked"."""
        return "attended" if any(edge.positions == "attended" for edge in self.logit_edges) else "masked"
