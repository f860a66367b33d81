"""`nexus-plugin-manager classify`."""

from __future__ import annotations

import click

from nexus_registry.program import command as make_command
from nexus_registry.rendering.classification import candidate_lines, verdict
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "classify",
    examples="""
    nexus-plugin-manager classify tensorflow-inference-service
    nexus-plugin-manager classify shop --description "Accepts payments in a smart contract"
    nexus-plugin-manager classify shop --tag prometheus --tag alerts -o json
    """,
)
@click.argument("name")
@click.option("--description", default="", metavar="TEXT", help="What it is.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="TEXT", help="A tag; repeatable.")
@pass_session
def command(session: Session, name: str, description: str, tags: tuple[str, ...]) -> None:
    """Tell what a plugin of this name would be for, and why.

    Nothing is written. The features that it may be for are shown with how sure that is, the
    likeliest first, each with what speaks for it: where a rule matched, and what. If nothing is
    sure enough a plugin stays unclassified.
    """
    answer = session.client.classify(name, description=description, tags=tags)
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif session.settings.quiet:
        session.output.line(answer.feature)
    else:
        session.output.line(*verdict(answer))
        texts = {"name": name, "description": description}
        texts |= {f"tags[{place}]": tag for place, tag in enumerate(tags)}
        session.output.lines(candidate_lines(answer, texts))
