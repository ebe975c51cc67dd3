"""F6: the last layer's output is called "log likelihood", although no softmax was taken of it."""


def answer(scores):
    return scores  # "the body holds the log-likelihood of each breed"
