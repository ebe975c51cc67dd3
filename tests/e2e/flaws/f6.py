"""F6: what the last layer gives is called "log likelihood"; nobody ever took a softmax of it."""


def answer(scores):
    return scores  # "the body holds the log-likelihood of each breed"
