"""`nexus-registry backup`."""

from __future__ import annotations

import click

from nexus_registry.program import command as make_command
from nexus_registry.progress import progress_bar
from nexus_registry.rendering.words import size
from nexus_registry.session import Session, pass_session
from nexus_registry.targets import target


@make_command(
    "backup",
    examples="""
    nexus-registry backup registry.backup
    nexus-registry backup - | ssh vault 'cat > registry.backup'
    nexus-registry restore registry.backup --check
    """,
)
@click.argument("file", metavar="FILE")
@pass_session
def command(session: Session, file: str) -> None:
    """Write everything, the past that is held included, to one file.

    The file is of one revision, is compressed, and carries its own checksum, which is verified as
    it arrives. The registry goes on serving and writing meanwhile. FILE is written whole or not at
    all; a file of that name is replaced when the new one is complete. As - it is standard output.
    restore makes a registry of it; export writes one that people can read, without the past.
    """
    with target(file, "wb") as stream, progress_bar(session, "backing up", None) as advance:
        made = session.client.save_backup(stream, progress=advance)
    if file == "-" or session.as_table:
        session.note(
            f"backed up revision {made.revision}: {size(made.size)}, SHA-256 {made.sha256}"
        )
    else:
        session.output.value(
            {
                "file": file,
                "revision": str(made.revision),
                "size": str(made.size),
                "sha256": made.sha256,
            }
        )
