"""The exit codes, and the exception for a mistake of the user: a message without traceback."""

FINISHED, BAD_INPUT, BY_MONITORING, FAILED, ON_SIGNAL = 0, 2, 3, 4, 5
EXIT_CODES = {
    FINISHED: "finished; a minimization converged",
    1: "a fault of the program or of a package, with its traceback",
    BAD_INPUT: "bad input (deck, model, structure, checkpoint), or a file that cannot be written",
    BY_MONITORING: "stopped by 'fidelity stop' or 'fidelity heal'",
    FAILED: "failed: an unstable run, a minimization that did not converge, frames without labels",
    ON_SIGNAL: "stopped by SIGTERM, SIGUSR1 or Ctrl-C after writing a checkpoint; the same command goes on",
    130: "interrupted by Ctrl-C: a second one, or in another command than run",
}


class InputError(Exception):
    """An input of the user (deck, model, structure, checkpoint, number of ranks) that cannot be used.

    Parameters
    ----------
    *faults : str
        One message per fault, in the form ``file:line: keyword: what is wrong; what to do``. All faults of an
        input are collected and raised together. Control characters, which a file may hold to command the terminal,
        are spelled out.
    """

    exit_code = BAD_INPUT

    def __init__(self, *faults: str) -> None:
        self.faults = tuple(printable(fault) for fault in faults)
        super().__init__("\n".join(self.faults))


def printable(text: str) -> str:
    r"""The text with every character that a terminal would obey, but line ends, as \\x1b or \\u202e."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
