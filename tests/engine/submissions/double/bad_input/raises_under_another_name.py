"""An exception whose class tells a wrong name."""

import torch


def halve(x):
    return x / 2


class Kind(type):
    __name__ = property(lambda kind: 5)
    __mro__ = property(lambda kind: [])


class Own(Exception, metaclass=Kind):
    pass


def double(x):
    raise Own('text')
