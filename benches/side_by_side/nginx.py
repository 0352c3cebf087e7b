"""nginx is one of the balancers, and it is the servers behind all of them."""

import os
import pwd

from .processes import tool

KEEP_ALIVE_REQUESTS = 1_000_000_000  # nginx closes connections after 1,000 requests; nobody else does


def nginx_configuration(directory, http, workers=1, worker_connections=4096):
    """Writes a configuration around what goes into its `http` block; the file."""
    # Started by root, nginx would hand its worker to a user who may not read the temporary directory.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    paths = "".join(
        f"    {kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = directory / "nginx.conf"
    file.write_text(f"""\
{user}
daemon off;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections {worker_connections}; }}
http {{
{paths}{http}}}
""")
    return file


def nginx_command(directory, configuration):
    return [tool("nginx"), "-p", directory, "-e", "stderr", "-c", configuration]
