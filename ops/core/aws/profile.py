"""The keys of the settings' profile: loading them, and a sentence with the next command for each reason that there are none."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shlex
import sys
import traceback
from typing import TYPE_CHECKING, Any

from botocore import exceptions as sdk
from botocore.credentials import ProcessProvider

from ops.core.errors import DENIALS, DENIED, FAILED, OpsError, ProfileError
from ops.core.masking import mask_keys
from ops.core.nearest import find_nearest
from ops.core.settings import resolve_below_root

if TYPE_CHECKING:
    from ops.core.settings import Settings

NOT_LOGGED_IN = (sdk.SSOError, sdk.TokenRetrievalError, sdk.NoAuthTokenError)
SECRETS = ("aws_secret_access_key", "aws_session_token")
NETWORK = (sdk.ConnectionError, sdk.HTTPClientError)
# What botocore passes on when a credential_process, or a cached login, holds something else than it should.
ODD_OUTPUT = (ValueError, TypeError, AttributeError, KeyError, RuntimeError)


def read_profile(session: Any, settings: Settings) -> dict[str, Any]:
    """Return the profile's options. Raises ProfileError when there is no such profile, or when its file cannot be read."""
    try:
        options: dict[str, Any] = session.get_scoped_config()
    except sdk.ProfileNotFound as error:
        raise explain_missing_profile(session, settings) from error
    except sdk.ConfigParseError as error:
        raise explain_broken_file(error) from error
    return options


def identify_source(session: Any, settings: Settings) -> str:
    """Return a digest of what the profile, and those that it builds on, say of whose keys they give; their secrets are left out."""
    config, chain, name = session.full_config, list[Any](), settings.aws.profile
    while name in config["profiles"] and name not in [known for known, _ in chain]:
        options = config["profiles"][name]
        chain.append((name, {key: value for key, value in options.items() if key not in SECRETS}))
        chain.append(("", config.get("sso_sessions", {}).get(options.get("sso_session"))))
        if options.get("credential_source") == "Environment":
            chain.append(("", os.environ.get("AWS_ACCESS_KEY_ID")))
        name = options.get("source_profile")
    return hashlib.sha256(json.dumps(chain, sort_keys=True, default=str).encode()).hexdigest()


def load_credentials(session: Any, settings: Settings, own: Any = None) -> Any:
    """Return the profile's credentials, or `own` if given, with their keys already fetched. Raises ProfileError when it gives none."""
    try:
        if own is None:
            providers = session.get_component("credential_provider")
            providers.get_provider("assume-role")._prompter = ask_for_code
            own = providers.load_credentials()
        if own is not None:
            own.get_frozen_credentials()
    except NETWORK:
        raise
    except (sdk.BotoCoreError, sdk.ClientError, OSError, *ODD_OUTPUT) as error:
        raise explain_missing_keys(error, settings) from error
    if own is None:
        incomplete_sso = any(key.startswith("sso_") for key in read_profile(session, settings))
        words, reason = ("configure sso", ": its SSO settings are incomplete") if incomplete_sso else ("configure", "")
        raise ProfileError(f"Profile {settings.aws.profile!r} has no keys{reason}.", build_command(settings, words))
    return own


def ask_for_code(prompt: str) -> str:
    """Ask for the code of an MFA device. Raises ProfileError without a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise ProfileError(
            "The profile needs the code of an MFA device, and there is no terminal to ask on.",
            "run in a terminal: invoke doctor (it keeps the session for an hour, for all commands)",
        )
    return getpass.getpass(prompt)


def build_command(settings: Settings, words: str) -> str:
    """Return a command of the AWS CLI for this profile and its file."""
    file = settings.aws.config_file
    prefix = f"AWS_CONFIG_FILE={shlex.quote(str(resolve_below_root(file)))} " if file else ""
    return f"{prefix}aws {words} --profile {shlex.quote(settings.aws.profile)}"


def explain_missing_profile(session: Any, settings: Settings) -> OpsError:
    where, profile = settings.aws.config_file or "~/.aws/config", settings.aws.profile
    near = find_nearest(profile, session.available_profiles)
    guess = f" Did you mean {near!r}? Set aws.profile." if near else ""
    is_sandbox = profile == "sandbox" and where.endswith("/aws/config")  # wherever its folder is
    if is_sandbox:
        guess += " Is the sandbox running?"
    fix = "invoke sandbox.up" if is_sandbox else build_command(settings, "configure")
    return ProfileError(f"There is no AWS profile {profile!r} in {where}.{guess}", fix)


def explain_broken_file(error: Any) -> ProfileError:
    """Name the file and the line, but not the line's text: it may be a key."""
    cause = error.kwargs.get("error")
    lines = [line for line, _ in getattr(cause, "errors", [])] or [getattr(cause, "lineno", None)]
    place = f"{error.kwargs['path']}, line {lines[0]}," if lines[0] else f"{error.kwargs['path']}"
    return ProfileError(
        f"{place} is not valid in an AWS configuration file.", "correct the file, then run: invoke doctor"
    )


def explain_missing_keys(error: Exception, settings: Settings) -> ProfileError:
    """Return why the profile gives no keys, as a sentence, and the command to run next."""
    profile = f"profile {settings.aws.profile!r}"
    subject = f"P{profile[1:]}"
    check = build_command(settings, "configure list")
    if isinstance(error, sdk.ConfigParseError):
        return explain_broken_file(error)
    if isinstance(error, NOT_LOGGED_IN):
        return ProfileError(
            f"{subject} is not logged in, or its login has expired.", build_command(settings, "sso login")
        )
    if isinstance(error, sdk.LoginError):
        return ProfileError(f"{subject} is not logged in, or its login has expired.", build_command(settings, "login"))
    if isinstance(error, sdk.InfiniteLoopConfigError):
        return ProfileError(end_sentence(f"{subject} reaches itself through source_profile: {error}"), check)
    if isinstance(error, sdk.CredentialRetrievalError) and error.kwargs.get("provider") == "custom-process":
        reason = mask_keys(str(error.kwargs["error_msg"])).strip()
        return ProfileError(
            end_sentence(f"The credential_process of {profile} failed: {reason[:300] or 'no message'}"), check
        )
    if isinstance(error, sdk.BotoCoreError | sdk.ClientError):
        denied = isinstance(error, sdk.ClientError) and error.response["Error"]["Code"].startswith(DENIALS)
        reason = end_sentence(f"{subject} gives no keys: {mask_keys(str(error))}")
        return ProfileError(reason, check, DENIED if denied else FAILED)
    if isinstance(error, OSError):
        missing = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        return ProfileError(end_sentence(f"{subject} gives no keys: {missing}"), check)
    reason = mask_keys(f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")[:300]
    if not comes_from_process(error):
        return ProfileError(end_sentence(f"{subject} gives no keys: {reason}"), check)
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return ProfileError(
            end_sentence(f"The output of the credential_process of {profile} is wrong: {reason}"), check
        )
    return ProfileError(
        f"The credential_process of {profile} printed no JSON with AccessKeyId and SecretAccessKey.", check
    )


def comes_from_process(error: Exception) -> bool:
    """Return whether the error was raised while botocore ran a credential_process, or read what it printed."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(isinstance(frame.f_locals.get("self"), ProcessProvider) for frame in frames)


def end_sentence(text: str) -> str:
    """Return the text with one full stop: the messages of libraries may have one already."""
    return text if text.rstrip().endswith((".", "!", "?")) else f"{text.rstrip()}."
