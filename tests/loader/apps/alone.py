# SPDX-License-Identifier: Apache-2.0
"""The class of a server's, beside others that help it."""
from models import Doubles


class Settings:
    pass


class ModelClass:
    """As Clarifai's, in the place of its package."""


class Helper(Doubles):
    def predict(self, inputs):
        raise RuntimeError("this is not the model")


class Model(ModelClass, Doubles):
    pass
