"""The commands `edgelut token create`, `list` and `revoke`: who may ask a service what."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from .cli import Json
from .cli_jobs import Url, console, open_jobs, print_json, say
from .errors import InvalidSpec

app = typer.Typer()
token_app = typer.Typer(
    name="token",
    help="Create, list and revoke a service's tokens; needs one with the scope admin in EDGELUT_TOKEN.",
    no_args_is_help=True,
)
app.add_typer(token_app)

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_SPAN = re.compile(r"([0-9]{1,6})(min|[shdwy])")

Name = Annotated[str, typer.Argument(help="Name of the token.")]
Scopes = Annotated[list[str], typer.Option(help="read, submit, agent or admin; may be repeated.")]
Devices = Annotated[
    list[str] | None, typer.Option(help="The only device that an agent's token may announce; may be repeated.")
]
ExpiresIn = Annotated[
    str | None, typer.Option(metavar="90d", help="How long it is valid: 12h, 90d, 1y.  [default: always]")
]


@token_app.command()
def create(
    name: Name,
    scope: Scopes,
    device: Devices = None,
    expires_in: ExpiresIn = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Create a token and print it, this once: `edgelut token create lab --scope agent --device lab-1 --expires-in 90d`."""
    with open_jobs(url) as service:
        made = service.create_token(name, scope, devices=device or (), expires_in_s=parse_span(expires_in))
    print_json(made) if as_json else typer.echo(made.token)
    if not as_json:
        console(stderr=True).print(told_once(name), highlight=False, markup=False, soft_wrap=True)


@token_app.command(name="list")
def list_tokens(url: Url = None, as_json: Json = False) -> None:
    """List the tokens, without their secrets."""
    with open_jobs(url) as service:
        found = service.tokens()
    if as_json:
        print_json(found)
    elif not found:
        say("no tokens are stored; 'edgelut token create NAME --scope read' makes one")
    else:
        from .job_tables import tokens_table

        console().print(tokens_table(found))


@token_app.command()
def revoke(name: Name, url: Url = None, as_json: Json = False) -> None:
    """Revoke a token: within 5 s it opens nothing any more."""
    with open_jobs(url) as service:
        found = service.revoke_token(name)
    print_json(found) if as_json else say(f"token {found.name} is revoked")


def parse_span(text: str | None) -> float | None:
    """Return the seconds of `12h` or `90d`, None for None; raise InvalidSpec."""
    if text is None:
        return None
    matched = _SPAN.fullmatch(text)
    if matched is None or not int(matched[1]):
        raise InvalidSpec(f"{text!r} is no length of time: write 30min, 12h, 90d, 4w or 1y")
    return float(int(matched[1]) * _UNITS[matched[2]])


def told_once(name: str) -> str:
    """Return what is said beside a new token."""
    return f"token {name} was created; it is told this once: keep it where EDGELUT_TOKEN is set from"
