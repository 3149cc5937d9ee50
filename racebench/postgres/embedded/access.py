"""Who may connect to an embedded server: the user that runs the command, as any role, and no other user.

The socket is in a folder that only this user may enter. The server asks the kernel, too, who is at the other end of a
connection (`peer`), so that no password exists. Its rules are in files that its user cannot change. A pooler runs as
the server's user, which can do with the server what it wants anyway: where there is one, that user may connect too.
Source: PostgreSQL manual, "Peer Authentication" and "User Name Maps".
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from racebench.core.errors import DatabaseProblem
from racebench.core.temporary import LONGEST_SOCKET, parent_of_sockets, temporary_folder
from racebench.postgres.embedded.programs import give_to_server_user, server_user

PORT = "5432"


def rules(slot: Path, *, pooled: bool = False) -> Mapping[str, str]:
    """Write the rules into a slot; return the settings that name them. Raises DatabaseProblem for a nameless user.

    `pooled`: the server's user may connect too.
    """
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise DatabaseProblem(
            f"user {os.geteuid()} has no name on this machine, and PostgreSQL needs one; "
            "run racebench as another user, or use --dsn"
        ) from None
    users = [user]
    if pooled and (servers := server_user()) is not None:
        users.append(servers.pw_name)
    lines = {
        "hba_file": "local all all peer map=command\n",
        "ident_file": "".join(f'command "{name}" all\n' for name in users),
    }
    for setting, line in lines.items():
        path = slot / setting
        path.write_text(line)
        path.chmod(0o644)
    return {setting: str(slot / setting) for setting in lines}


def socket_folder(slot: Path, stack: contextlib.ExitStack) -> Path:
    """Make the folder of the socket, in which the server may make it: in the slot unless that has too long a path."""
    parent = slot
    if len(os.fsencode(slot / "socket" / f".s.PGSQL.{PORT}")) > LONGEST_SOCKET:
        parent = stack.enter_context(temporary_folder("socket", parent=parent_of_sockets()))
        parent.chmod(0o711)
    folder = parent / "socket"
    folder.mkdir(mode=0o700)
    give_to_server_user(folder)
    return folder


def close_socket_folder(folder: Path, *, pooled: bool = False) -> None:
    """Take the folder back when the socket is in it: from now on nobody else can enter it, or replace the socket.

    `pooled`: the server's user may enter it, by its group, and no more.
    """
    os.chown(folder, os.geteuid(), os.getegid(), follow_symlinks=False)
    if pooled and (user := server_user()) is not None:
        os.chown(folder, -1, user.pw_gid, follow_symlinks=False)
        folder.chmod(0o710)
