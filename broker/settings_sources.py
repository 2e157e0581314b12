"""Where settings come from: pydantic-settings merges and checks them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic needs the type at run time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from broker.errors import UsageError
from broker.settings import Role  # noqa: TC001 - pydantic needs the type at run time
from channels.channel import ChannelSettings
from dispatcher.settings import DispatchSettings
from eventing.routing import WhenFull

if TYPE_CHECKING:
    from collections.abc import Mapping

_DISPATCH = DispatchSettings()
_CHANNELS = ChannelSettings()


class Sources(BaseSettings):
    """Every setting in the form in which people write it."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_", extra="forbid", frozen=True)

    listen: str = "127.0.0.1:8080"
    api: str = "127.0.0.1:8001"
    data: Path | None = None
    channel: str = "sqlite:"
    manifests: Annotated[list[Path], NoDecode] = []
    kubeconfig: Path | None = None
    role: Annotated[list[Role], NoDecode] = []
    namespace: str = Field(default="", pattern="^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    advertise: str = Field(default="", pattern="^$|^https?://")
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    park_after: float = Field(default=_DISPATCH.park_after, gt=0)
    byte_budget: int = Field(default=_DISPATCH.byte_budget, ge=1024 * 1024)
    grace: float = Field(default=_DISPATCH.grace, ge=0)
    retention_age: float = Field(default=_DISPATCH.retention_age, ge=0)
    retention_size: int = Field(default=_DISPATCH.retention_size, ge=0)
    max_parked: int = Field(default=_DISPATCH.max_parked, ge=0)
    max_parked_bytes: int = Field(default=_DISPATCH.max_parked_bytes, ge=0)
    when_full: WhenFull = WhenFull.REFUSE
    max_file_bytes: int = Field(default=_CHANNELS.max_file_bytes, ge=1024 * 1024)
    max_disk_share: float = Field(default=_CHANNELS.max_disk_share, gt=0, le=1)
    lease: float = Field(default=_CHANNELS.lease, ge=1)
    commit_interval: float = Field(default=_CHANNELS.commit_interval, ge=0, le=1)

    @field_validator("manifests", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        """In the environment, paths are separated as in PATH."""
        return [part for part in value.split(":") if part] if isinstance(value, str) else value

    @field_validator("role", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        """Several are separated by commas."""
        texts = value if isinstance(value, list) else [value]
        return [part.strip() for text in texts for part in str(text).split(",") if part.strip()]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and environment; the file is merged in by `read`, below both."""
        del settings_cls, dotenv_settings, file_secret_settings
        return init_settings, env_settings


def read(flags: Mapping[str, Any], config: Path | None) -> Sources:
    """All sources merged. Raises UsageError with one line that names the setting and what is wrong with it."""
    try:
        # Twice, since only pydantic knows which settings the environment has: those go before the file.
        above = Sources(**flags)
        if config is None:
            return above
        return Sources(**{**_file(config), **{name: getattr(above, name) for name in above.model_fields_set}})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise UsageError(f"{name}: {first['msg']} (got {first['input']!r})") from error


def _file(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML  # noqa: PLC0415 - slow to import, only needed where a file is given
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - as above

    try:
        document = YAML(typ="safe").load(path)
    except OSError as error:
        raise UsageError(f"config: {path} cannot be read: {error.strerror}") from error
    except YAMLError as error:
        raise UsageError(f"config: {path} is no valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"config: {path} must be a mapping of settings, for example 'listen: 127.0.0.1:8080'")
    return {str(key).replace("-", "_"): value for key, value in document.items()}
