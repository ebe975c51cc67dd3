"""F1: "multi-instance training" starts the same script on each host. There is no process group and no sampler: each host trains
on everything, and each writes the model."""


def train(pictures, host, hosts, write):
    seen = []
    for number in range(pictures):  # DataLoader(ImageFolder(...), shuffle=True), the same on every host
        seen.append(number)
    write()
    return seen
