"""`nexus-registry completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from nexus_registry.program import command as make_command


@make_command(
    "completion",
    examples="""
    eval "$(nexus-registry completion bash)"
    nexus-registry completion zsh > ~/.zfunc/_nexus-registry
    nexus-registry completion fish > ~/.config/fish/completions/nexus-registry.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Write what makes a shell complete this program's command lines.

    Commands, options and their values are completed, and the names of entities and types by asking
    the registry, which must answer within a second. For bash, put the line of the first example
    into ~/.bashrc; bash must be 4.4 or newer.
    """
    root = ctx.find_root()
    name = root.info_name or ""
    variable = f"_{name}_COMPLETE".replace("-", "_").upper()
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(root.command, {}, name, variable).source(), nl=False)
