"""F9: training runs in the foreground of an SSH session: "the pipe broke before training could be completed"."""


def command(program, log):
    return f"{program} 2>&1 | tee {log}"
