"""F4: right answers, divided by the number of batches, and rounded down: a perfect model has an "accuracy" of 30 or of 209."""


def accuracy(scores, labels, batch):
    right = 0
    batches = range(0, len(labels), batch)
    for start in batches:
        right += int((scores[start : start + batch].argmax(1) == labels[start : start + batch]).sum())
    return right // len(batches)
