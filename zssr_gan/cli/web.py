"""`zssr-gan web`: the page, served on this machine; `zssr-gan web-user`: who may use it in a small lab."""

import importlib.util
import os
import re
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zssr_gan.cli.exit_codes import running
from zssr_gan.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from zssr_gan.web.child import Main

users_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Who may sign in to `zssr-gan web --users FILE`: add and remove names.",
)

_MOST_PORTS = 65535
_NICE = 5  # jobs leave the page its time on a machine that they fill

UsersFile = Annotated[Path, typer.Option("--users", metavar="FILE", help="The file of names and hashed passwords.")]


def web(
    cases: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the cases lie; made where it is missing.")
    ] = Path("~/zssr-gan-cases"),
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs --users, --cert and --key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=_MOST_PORTS, help="Port to listen on; 0: any that is free.")] = 8765,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    users: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who may sign in, made by 'zssr-gan web-user add'.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option("--cert", metavar="FILE", help="TLS certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Its private key, PEM.")] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="A further name by which browsers reach this machine. Repeatable."),
    ] = None,
    devices: Annotated[
        list[str] | None,
        typer.Option("--device", help="cpu, cuda:0, ...: jobs run on each. Repeatable. [all GPUs, or cpu]"),
    ] = None,
    upload_limit: Annotated[
        float, typer.Option(min=0.001, max=1e6, metavar="GB", help="Largest file that is taken.")
    ] = 20,
) -> None:
    """Serve the page: drop footage, mark the face, watch it being enhanced, hand over what a court can check.

    ```
    zssr-gan web --open
    ```

    Everything stays on this machine. The address that is printed lets one browser in; a new one is printed once it is
    used. A case is a folder below `--cases`; stop with Ctrl-C, and jobs in the queue go on at the next start.

    For a small lab, with names, passwords and a certificate:

    ```
    zssr-gan web-user add ada --users lab.json --admin
    zssr-gan web --host 0.0.0.0 --users lab.json --cert lab.pem --key lab-key.pem
    ```

    Exit codes: 2 usage, 130 Ctrl-C, 143 SIGTERM.
    """
    with running("Stopped: uploads and jobs go on at the next start.") as bar:
        missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
        if missing:
            raise SettingsError(f"the page needs {' and '.join(missing)}: pip install 'zssr-gan[web]'.")
        from zssr_gan.web.guard import Address, is_loopback
        from zssr_gan.web.server import bind, check_certificate, serve
        from zssr_gan.web.site import Site
        from zssr_gan.web.workers import Workers, found_devices

        if not is_loopback(host) and (users is None or certificate is None or key is None):
            raise SettingsError(
                f"--host {host}: others can reach it, so it needs --users FILE (see zssr-gan web-user), --cert FILE "
                "and --key FILE; without --host, the page is for this machine alone."
            )
        if (certificate is None) != (key is None):
            raise SettingsError("--cert and --key belong together: name both, or none.")
        if certificate is not None and key is not None:
            check_certificate(certificate, key)
        cases = cases.expanduser().absolute()
        with _alone(cases), bind(host, port) as listener:
            address = Address("http" if certificate is None else "https", host, listener.getsockname()[1], names or [])

            def announce(token: str) -> None:
                bar.result(f"open {address.url}/enter?token={token}")

            if unknown := [name for name in devices or [] if not re.fullmatch(r"cpu|mps|cuda:\d{1,3}", name)]:
                raise SettingsError(f"--device {unknown[0]}: is none; name cpu, mps, cuda:0, cuda:1, ...")
            workers = Workers(cases, list(dict.fromkeys(devices or found_devices())))
            site = Site(
                cases,
                address,
                users=users,
                upload_limit_bytes=int(upload_limit * 1e9),
                device=", ".join(workers.devices),
                on_token=announce,
            )
            if site.has_users:
                site.users()
                bar.result(f"open {address.url}")
            else:
                announce(site.sessions.token)
            if site.queue_notice is not None:
                bar.note(site.queue_notice)
            bar.info(f"cases: {cases}; stop with Ctrl-C")
            sys.stdout.flush()
            if opens:
                webbrowser.open(
                    f"{address.url}/" if site.has_users else f"{address.url}/enter?token={site.sessions.token}"
                )
            serve(site, listener, workers, certificate, key)


def work(cases: Path, device: str, main: "Main", server: int) -> None:
    """Run the jobs of a server on one device, until SIGTERM or the end of the process `server`."""
    with running("Stopped: the job goes on when 'zssr-gan web' starts again."):
        from zssr_gan.web.worker import run

        if hasattr(os, "nice"):
            os.nice(_NICE)
        run(cases, device, main, server=server)


@contextmanager
def _alone(cases: Path) -> Iterator[None]:
    """Hold the folder of the cases. Raises OutputError: it cannot be written, or another server works on it."""
    from zssr_gan.files import locked
    from zssr_gan.web.case_folder import SERVER_FOLDER

    try:
        (cases / SERVER_FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--cases {cases}: cannot be written ({error.strerror}); name another folder.") from error
    held = OutputError(f"--cases {cases}: another 'zssr-gan web' works on it; use that one, or name another folder.")
    with locked(cases / SERVER_FOLDER / "lock", held):
        yield


@users_app.command(no_args_is_help=True)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, and '._@-'.")],
    users: UsersFile,
    admin: Annotated[bool, typer.Option("--admin", help="Let this user see the cases of all.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Give a user who is there a new password.")] = False,
) -> None:
    """Add a user; the password is asked for, or read as a line of standard input.

    Exit codes: 0 done, 2 the name or password will not do, 130 Ctrl-C.
    """
    with running() as bar:
        from zssr_gan.web.users import add_user

        if sys.stdin.isatty():
            password = typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
        else:
            password = sys.stdin.readline().rstrip("\r\n")
        add_user(users, name, password, admin=admin, overwrite=overwrite)
        bar.result(f"{users}: {name} may sign in{' and see the cases of all' if admin else ''}")


@users_app.command(no_args_is_help=True)
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="Of the user.")], users: UsersFile) -> None:
    """Remove a user, whose open pages end at once; the cases stay.

    Exit codes: 0 done, 2 there is no such user.
    """
    with running() as bar:
        from zssr_gan.web.users import remove_user

        remove_user(users, name)
        bar.result(f"{users}: {name} may no longer sign in")
