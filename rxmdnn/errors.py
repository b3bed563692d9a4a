"""The one exception a user's mistake raises: a message, no traceback, exit code 2."""


class InputError(Exception):
    """Something the user gave (deck, model, structure, checkpoint, rank count) cannot be used.

    Parameters
    ----------
    *faults : str
        One message each, in the form ``file:line: keyword: what is wrong; what to do``. All faults of an
        input are collected and raised together.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
