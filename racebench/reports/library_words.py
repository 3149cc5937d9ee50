"""The command line's options in a text, replaced by the library's parameters: for reports shown by Python and pytest.

Sentences and notes name what to change as an option of a command. Who has called `racebench.hammer(…)` has none.
"""

from __future__ import annotations

import re

#: What each option is called in the library. `{}` is the place of the value.
PARAMETERS = {
    "--allow": "allow=[{}]",
    "--batch": "load=racebench.LoadOptions(batch={})",
    "--budget": "budget={}",
    "--connections-per-worker": "load=racebench.LoadOptions(connections_per_worker={})",
    "--consumer": "consumer={}",
    "--consumer-dsn": "consumer_dsn={}",
    "--crash": "crash={}",
    "--depth": "search=racebench.Search(depth={})",
    "--dsn": "dsn={}",
    "--draws": "search=racebench.Search(draws={})",
    "--duration": "seconds={}",
    "--exec": "racebench.program={}",
    "--expect-status": "serve=racebench.service(expect_status={})",
    "--fault": "load=racebench.LoadOptions(faults=[{}])",
    "--give-up-after": "give_up_after={}",
    "--header": "headers={}",
    "--hold": "load=racebench.LoadOptions(hold_us={})",
    "--idle-in-transaction": "load=racebench.LoadOptions(idle_in_transaction_s={})",
    "--instances": "serve=racebench.service(instances={})",
    "--invariant": "invariant={}",
    "--jitter": "load=racebench.LoadOptions(jitter_us={})",
    "--jobs": "jobs={}",
    "--listen": "serve=racebench.service(listen={})",
    "--max-schedules": "max_schedules={}",
    "--operations": "operations={}",
    "--oracle": "oracle={}",
    "--poll-interval": "load=racebench.LoadOptions(poll_interval_ms={})",
    "--pool-size": "racebench.Bench(pool_size={})",
    "--pooler": "racebench.Bench(pooler={})",
    "--polls": "search=racebench.Search(polls={})",
    "--protocol": "load=racebench.LoadOptions(protocol={})",
    "--rate": "load=racebench.LoadOptions(rate_per_s={})",
    "--ready": "serve=racebench.service(ready={})",
    "--reset": "serve=racebench.service(reset={})",
    "--restart": "serve=racebench.service(restart={})",
    "--rounds": "rounds={}",
    "--scheduler": "scheduler={}",
    "--serve": "serve={}",
    "--sessions": "sessions={}",
    "--setup": "setup={}",
    "--standby": "standby={}",
    "--standby-delay": "standby_delay={}",
    "--step-timeout": "search=racebench.Search(step_timeout={})",
    "--stop-at-first": "stop_at_first={}",
    "--strategy": "strategy={}",
    "--superuser": "superuser={}",
    "--think": "load=racebench.LoadOptions(think_us={})",
    "--url": "serve=racebench.service(url={})",
    "--warmup": "load=racebench.LoadOptions(warmup_s={})",
    "--workers": "workers={}",
    "--workers-per-machine": "workers_per_machine={}",
}
#: Those whose value is a word; of the others a value is a number, or N for one.
_WORDS = ("--allow", "--consumer", "--oracle", "--protocol", "--strategy")
#: Of this one only a mode is a value: "--pooler simulates a pooler" has none.
_POOLER = r"--pooler(?=\s+(?:session|transaction|statement)\b)"
_OPTION = re.compile(rf"({'|'.join((*_WORDS, _POOLER))})\s+([\w-]+)|(--[a-z][a-z-]*)(?:\s+([0-9][0-9.]*|N)\b)?")
#: A command that is there to be copied.
_COMMAND = re.compile(r"(`racebench [^`]*`|^[ ]*racebench \w+ .*$)", re.MULTILINE)


def in_library_words(text: str) -> str:
    """The text with parameters in place of options: `strategy='advisory'` for `--strategy advisory`.

    Commands stay as they are, and so does an option that the library does not have.
    """
    parts = _COMMAND.split(text)
    return "".join(part if _COMMAND.fullmatch(part) else _OPTION.sub(_parameter, part) for part in parts)


def _parameter(option: re.Match[str]) -> str:
    word, chosen, name, number = option.groups()
    if word:
        return PARAMETERS[word].format(repr(chosen))
    if name not in PARAMETERS:
        return option.group()
    if number:
        return PARAMETERS[name].format(number)
    return PARAMETERS[name].partition("={}")[0].rpartition("(")[2]
