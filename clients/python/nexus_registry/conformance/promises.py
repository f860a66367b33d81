"""What a registry promises, and what of it cannot be seen from outside."""

from __future__ import annotations

from typing import Final

__all__ = ["METHODS_LEFT_OUT", "NOT_SEEN", "NO_COMPACTION", "PROMISES"]

PROMISES: Final = {
    "C1": "what was answered is kept",
    "C2": "a request is one revision, whole or not at all",
    "C3": "revisions rise in commit order",
    "C4": "a read sees every write before it; the past is as it was",
    "C5": "all pages of a listing are of one revision",
    "C6": "a repeated key answers the first result",
    "C7": "no update is lost",
    "W1": "changes come in order",
    "W2": "no change comes twice",
    "W3": "exactly what matches comes",
    "W4": "a revision is never split",
    "W5": "a stream resumes from every token",
    "W6": "what a bookmark says was delivered",
    "W7": "every write reaches every watcher",
    "W8": "a compacted start is refused",
    "W9": "a start in the future waits",
    "W10": "what starts to match is created, what stops is deleted",
    "W11": "a snapshot, then the changes after it",
    "W12": "a slow watcher loses nothing, or is reset if it asked",
    "W13": "a token of another history is refused",
    "W14": "authorization holds for each event",
    "G1": "an answer is complete or says what cut it",
    "G2": "the graph is walked exactly",
    "G3": "an answer is of one revision",
}
"""Each promise in a few words."""

NOT_SEEN: Final = {
    "C1": "whether it outlives a crash: this suite cannot crash the server",
    "W12": "what a slow watcher costs the server and the other watchers",
    "W13": "whether a restored backup refuses the tokens of before",
    "W14": "the registry has no authorization",
}
"""What of a promise a black box cannot see, so that it is never told to be kept altogether."""

NO_COMPACTION: Final = {
    "W8": "nothing was compacted: --compact allows it",
    "W12": "whether a watcher is reset, for nothing was compacted: --compact allows it",
}
"""What cannot be seen without a compaction, which forgets everybody's history."""

METHODS_LEFT_OUT: Final = {
    "AdminService/Backup": "it sends all that the registry holds",
    "AdminService/Compact": "it forgets everybody's past: --compact allows it",
    "LeaseService/ExpireHeldLeases": "it ends the leases of others",
}
"""Methods that are not called beside other data, and why."""
