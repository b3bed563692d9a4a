"""The exception for a mistake of the user: a message without traceback, exit code 2."""


class InputError(Exception):
    """An input of the user (deck, model, structure, checkpoint, number of ranks) that cannot be used.

    Parameters
    ----------
    *faults : str
        One message per fault, in the form ``file:line: keyword: what is wrong; what to do``. All faults of an
        input are collected and raised together.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
