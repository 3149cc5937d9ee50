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
from racebench.postgres.embedded.programs import give_to_server_user, server_uid, server_user

PORT = "5432"
#: The folders of the socket of the command's sessions, and of the socket of a standby.
_SESSIONS, REPLICATION = "socket", "replication"


def rules(slot: Path, *, pooled: bool = False, replicated: bool = False) -> Mapping[str, str]:
    """Write the rules into a slot; return the settings that name them. Raises DatabaseProblem for a nameless user.

    `pooled`: the server's user may connect too. `replicated`: it may connect as a standby does; its processes may read
    the data directory as well.
    """
    users = [_name_of(os.geteuid())]
    if pooled and (servers := server_user()) is not None:
        users.append(servers.pw_name)
    lines = {
        "hba_file": "local all all peer map=command\n",
        "ident_file": "".join(f'command "{name}" all\n' for name in users),
    }
    if replicated:
        lines["hba_file"] += "local replication all peer map=standby\n"
        lines["ident_file"] += f'standby "{_name_of(server_uid())}" all\n'
    for setting, line in lines.items():
        path = slot / setting
        path.write_text(line)
        path.chmod(0o644)
    return {setting: str(slot / setting) for setting in lines}


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise DatabaseProblem(
            f"user {uid} has no name on this machine, and PostgreSQL needs one; "
            "run racebench as another user, or use --dsn"
        ) from None


def socket_folder(slot: Path, stack: contextlib.ExitStack, *, name: str = _SESSIONS) -> Path:
    """Make the folder of a socket, in which the server may make it: in the slot unless that has too long a path."""
    parent = slot
    if len(os.fsencode(slot / name / f".s.PGSQL.{PORT}")) > LONGEST_SOCKET:
        parent = stack.enter_context(temporary_folder("socket", parent=parent_of_sockets()))
        parent.chmod(0o711)
    folder = parent / name
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
