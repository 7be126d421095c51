"""Uses of what an exercise forbids.

``read_policy`` finds them in the source; ``is_forbidden`` is asked about the names of what ran. Reading finds what is
written plainly and says where; watching finds the rest.
"""

from grader.policy.reader import read_policy
from grader.policy.rules import is_forbidden

__all__ = ["is_forbidden", "read_policy"]
