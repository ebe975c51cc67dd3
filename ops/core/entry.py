"""Before a task runs: read settings files, the environment and typed names, say what is wrong with them, complete words at TAB.

Invoke lets a program replace these only as a program of its own; `invoke` is everyone's. So tasks.py calls `install`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.parser import Parser, ParserContext
from invoke.parser.parser import ParseMachine
from invoke.program import Program

from ops.core.streams import end_on_lost_output, open_closed_streams

read_arguments, finish_reading = Program.parse_tasks, Program.parse_cleanup
read_word = ParseMachine.handle
read_runtime_file = Config.load_runtime


def install() -> None:
    """Put Kennel's checks in the place of Invoke's own reading. Calling it twice is the same as once."""
    patches: dict[type, dict[str, Any]] = {
        Config: {
            "_load_yaml": load_file,
            "_load_yml": load_file,
            "_load_json": load_file,
            "_load_py": refuse_program,
            "load_runtime": load_runtime,
            "load_shell_env": load_environment,
        },
        Collection: {"_transform_lexicon": rename_keys},
        Program: {
            "_make_parser": make_parser,
            "parse_tasks": parse_tasks,
            "parse_cleanup": finish_parsing,
            "no_tasks_given": print_first_commands,
        },
        ParseMachine: {"handle": handle_word},
    }
    open_closed_streams()
    for owner, methods in patches.items():
        for name, method in methods.items():
            setattr(owner, name, method)


def rename_keys(self: Any, old: Any) -> Any:
    """Return a namespace's tasks by their names with dashes. Invoke's own also copies each task: nothing else uses those of tasks.py."""
    new = type(old)({self.transform(name): value for name, value in old.items()})
    for alias, name in old.aliases.items():
        new.alias(self.transform(alias), to=self.transform(name))
    return new


def load_file(self: Any, path: str) -> Any:
    from ops.core.settings_files import read_settings_file

    project = self._project or {}
    return read_settings_file(path, {**self._defaults, **project}, closed=self._defaults if project else ())


def refuse_program(self: Any, path: str) -> Any:
    """Refuse settings in Python, which Invoke would run. Without such a file there are none."""
    if Path(path).exists():
        from ops.core.settings_files import require_suffix

        require_suffix(path)
    return {}


def load_runtime(self: Any, merge: bool = True) -> None:
    if self._runtime_path is not None:
        from ops.core.settings_files import require_settings_file

        require_settings_file(str(self._runtime_path))
    read_runtime_file(self, merge)


def load_environment(self: Any) -> None:
    from ops.core.settings_environment import read_environment

    self.merge()
    self._set(_env=read_environment(self._config, self._runtime or {}, str(self._runtime_path)))
    self.merge()


def make_parser(self: Any) -> Parser:
    """Return a parser that knows the tasks named in the command line: Invoke's copies each context, a third of a short command's time.

    Completion needs them all.
    """
    words = {part for word in self.argv[1:] for part in (word, word.partition("=")[2])}
    names = self.collection.task_names
    ignore = self.config.tasks.ignore_unknown_help
    contexts = [
        ParserContext(name, aliases, self.collection[name].get_arguments(ignore_unknown_help=ignore))
        for name, aliases in names.items()
        if self.args.complete.value or not words.isdisjoint((name, *aliases))
    ]
    return Parser(initial=self.initial_context, contexts=contexts)


def parse_tasks(self: Any) -> None:
    """Parse the tasks as Invoke does; a namespace alone lists its commands, a wrong name is answered with the nearest."""
    for path in (self.config._system_path, self.config._user_path):
        if path is not None and str(path).endswith(".py"):  # Invoke has run it, or names it although there is none
            refuse_program(self.config, str(path))
    try:
        read_arguments(self)
    except ParseError as error:
        from ops.core import typed_names

        words = self.core.unparsed
        if words[:1] and words[0] in self.collection.collections and set(words[1:]) <= {"-h", "--help", "help"}:
            print_text(typed_names.list_namespace(self.collection, words[0]))
            raise Exit from None
        core_flags = self.initial_context.flag_names()
        raise Exit(typed_names.describe_parse_error(error, self.collection, words, core_flags), code=1) from None
    except ValueError as error:  # a word where a flag takes a number
        from ops.core import typed_names

        raise Exit(typed_names.describe_wrong_value(error, self.core.unparsed), code=1) from None


def finish_parsing(self: Any) -> None:
    """Print candidates at TAB, or lists and help as Invoke does; --help of a namespace lists its commands, a wrong name gets the nearest."""
    if not self.args.complete.value:
        answer_wrong_help(self)
    with explain_lost_output():
        if self.args.complete.value:
            print_candidates(self)
            raise Exit
        finish_reading(self)


def answer_wrong_help(self: Any) -> None:
    """End the program where --help or --list names no command, with the commands of a namespace or the nearest name."""
    from_help, from_list = (
        flag.value if isinstance(flag.value, str) else "" for flag in (self.args.help, self.args.list)
    )
    form, groups = self.args["list-format"].value, self.collection.collections
    if form not in (None, "flat", "nested", "json"):
        raise Exit(f"The flag --list-format takes flat, nested or json, got {form!r}; see: invoke --help", code=1)
    if (from_help and from_help not in self.parser.contexts) or (from_list and from_list not in groups):
        from ops.core import typed_names

        if from_help in groups:
            print_text(typed_names.list_namespace(self.collection, from_help))
            raise Exit
        raise Exit(typed_names.describe_unknown_help(from_help or from_list, self.collection), code=1)


def handle_word(self: Any, word: str) -> None:
    """Give a word that is not a flag, a value or a command to a positional argument with a default: Invoke fills only those without."""
    if self.context and not (word.startswith("-") or word in self.contexts or self.waiting_for_flag_value):
        for argument in self.context.positional_args:
            if argument.value is None:  # one without a default comes first, and is Invoke's own affair
                break
            if argument.raw_value is None:
                argument.value = word
                return
    read_word(self, word)


def print_first_commands(self: Any) -> None:
    from ops.core import typed_names

    print_text(typed_names.list_first_commands(self.collection))
    raise Exit


def print_text(text: str) -> None:
    with explain_lost_output():
        print(text)


def print_candidates(self: Any) -> None:
    from ops.core import completion

    words = self.core.remainder.split(" ")[1:] or [""]
    default = self.config.stack.name
    for candidate in completion.complete(
        words, self.initial_context, self.parser.contexts, lambda: completion.read_stack_name(words, default)
    ):
        print(candidate)


@contextmanager
def explain_lost_output() -> Iterator[None]:
    """Word the error of an output that cannot be written, before a task runs."""
    try:
        with end_on_lost_output():
            yield
    except OSError as error:
        from ops.core.task import explain_error

        raise explain_error(error) from error
