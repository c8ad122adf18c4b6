"""LiteLLM's proxy configuration: model_list, litellm_settings, router_settings, general_settings ...

Documented at docs.litellm.ai/docs/proxy/configs and .../config_settings; the prefixes of models (`openai/gpt-4o`) under
docs.litellm.ai/docs/providers. Any value may be `os.environ/NAME`, the value of an environment variable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mooltiproxy.config.options import FIELDS, OWN_FIELDS
from mooltiproxy.config.shapes import Where
from mooltiproxy.importers.accounts import Pattern
from mooltiproxy.importers.draft import Data, Draft, Imported, Variable
from mooltiproxy.importers.foreign import items, section
from mooltiproxy.importers.servers import STAND_INS, is_variable_name, openai_server, wrong_url

SECTIONS = ("litellm_settings", "router_settings", "general_settings")

SETTINGS = FIELDS | OWN_FIELDS
"""Fields of requests that litellm_params may give; what the client sends wins."""

_ENVIRON = "os.environ/"
_PARAMS = "litellm_params"


@dataclass(frozen=True, slots=True)
class Provider:
    """Where LiteLLM sends a model with this prefix, and where it looks for the key, if nothing else is said.

    `base` may be the name of a variable (`$NAME`); "" means that api_base must say it. `speaks` other than openai is of
    servers that are asked below their root.
    """

    base: str = ""
    key: str = ""
    speaks: tuple[str, ...] = ("openai",)


PROVIDERS = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "text-completion-openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "custom_openai": Provider(),
    "openai_like": Provider(),
    "anthropic": Provider("https://api.anthropic.com", "ANTHROPIC_API_KEY", ("anthropic",)),
    "gemini": Provider("https://generativelanguage.googleapis.com", "GEMINI_API_KEY", ("gemini",)),
    "ollama": Provider("http://localhost:11434", "", ("ollama",)),
    "ollama_chat": Provider("http://localhost:11434", "", ("ollama",)),
    "huggingface": Provider("", "", ("openai", "tgi")),
    "hosted_vllm": Provider("$HOSTED_VLLM_API_BASE"),
    "vllm": Provider(),
    "lm_studio": Provider("$LM_STUDIO_API_BASE"),
    "llamafile": Provider("http://127.0.0.1:8080/v1"),
    "xinference": Provider("http://127.0.0.1:9997/v1"),
    "litellm_proxy": Provider("$LITELLM_PROXY_API_BASE", "LITELLM_PROXY_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "codestral": Provider("https://codestral.mistral.ai/v1", "CODESTRAL_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together_ai": Provider("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY"),
    "perplexity": Provider("https://api.perplexity.ai/", "PERPLEXITYAI_API_KEY"),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "sambanova": Provider("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
}
"""By prefix; as LiteLLM's `get_llm_provider_logic.py` and the pages of its providers have them."""

REFUSED = {
    "azure": "Azure wants the deployment in the path, an api-version and its key in a header of its own; its newer "
    "base (https://NAME.openai.azure.com/openai/v1) can be a target with `speaks: openai`",
    "azure_ai": "Azure wants its key in a header of its own: write the target yourself, if yours takes a bearer key",
    "bedrock": "requests to AWS are signed, which mooltiproxy cannot do: put a server that can before it",
    "sagemaker": "requests to AWS are signed, which mooltiproxy cannot do: put a server that can before it",
    "vertex_ai": "Google Cloud wants short-lived tokens: use the Gemini API (prefix gemini) with a key instead",
    "vertex_ai_beta": "Google Cloud wants short-lived tokens: use the Gemini API (prefix gemini) with a key instead",
}
_BARE = (
    (("gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-", "*"), "openai"),
    (("claude-",), "anthropic"),
    (("gemini-",), "vertex_ai"),
)
"""How LiteLLM takes models without a prefix, by how their names begin."""

_POOL = "one server answers for a model: give this one another model_name, or put a load balancer before both"
_LIMITS = "limits are not carried: see `limits` of keys and models, and `concurrent` of targets"
_COSTS = "costs are not counted"
_STORE = "there is no database: keys are in the configuration file"
_LOGS = "there are no callbacks: see the access log and /-/metrics"
_CACHE = "answers are not cached"
_FALLBACKS = "no other model is asked in its place: the client gets the error"

REASONS: dict[Pattern, str] = {
    ("model_list", "*", "model_info"): "it tells LiteLLM about the model and changes no request",
    ("model_list", "*", "tpm"): _LIMITS,
    ("model_list", "*", "rpm"): _LIMITS,
    **{("model_list", "*", _PARAMS, name): _LIMITS for name in ("tpm", "rpm", "max_parallel_requests", "weight")},
    **{
        ("model_list", "*", _PARAMS, name): _COSTS
        for name in ("input_cost_per_token", "output_cost_per_token", "max_budget", "budget_duration")
    },
    **{
        ("model_list", "*", _PARAMS, name): "`system.timeout` holds for all targets: set it there"
        for name in ("timeout", "stream_timeout")
    },
    **{
        ("model_list", "*", _PARAMS, name): "targets get no header fields of yours: a middleware can add them"
        for name in ("extra_headers", "headers", "organization")
    },
    (
        "model_list",
        "*",
        _PARAMS,
        "extra_body",
    ): "only fields of the client's API are set: see `models` in the documents",
    ("model_list", "*", _PARAMS, "max_retries"): "a request is sent once: clients retry",
    ("model_list", "*", _PARAMS, "tags"): "requests are not routed by tags: use a model's name, or the target header",
    ("litellm_settings", "cache"): _CACHE,
    ("litellm_settings", "cache_params"): _CACHE,
    **{
        ("litellm_settings", name): _LOGS
        for name in ("success_callback", "failure_callback", "callbacks", "service_callbacks", "json_logs")
    },
    ("litellm_settings", "num_retries"): "a request is sent once: clients retry",
    **{
        ("litellm_settings", name): _FALLBACKS
        for name in ("fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
    },
    ("litellm_settings", "set_verbose"): "`mooltiproxy serve --verbose` logs more, `system.debug` bodies as well",
    **{
        ("router_settings", name): _FALLBACKS
        for name in ("fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
    },
    ("router_settings", "routing_strategy"): _POOL,
    ("router_settings", "routing_strategy_args"): _POOL,
    **{
        ("router_settings", name): "a request is sent once: clients retry"
        for name in ("num_retries", "retry_policy", "retry_after", "allowed_fails", "allowed_fails_policy")
    },
    **{
        ("router_settings", name): "one process serves, and keeps its state in memory"
        for name in ("redis_host", "redis_port", "redis_password", "redis_url", "redis_db")
    },
    ("router_settings", "cooldown_time"): "a server that failed is asked again at once",
    **{
        ("general_settings", name): _STORE
        for name in ("database_url", "database_connection_pool_limit", "database_connection_timeout")
    },
    ("general_settings", "store_model_in_db"): _STORE,
    ("general_settings", "alerting"): "there are no alerts: watch /-/metrics",
    ("general_settings", "alerting_threshold"): "there are no alerts: watch /-/metrics",
    ("general_settings", "completion_model"): "a request that names no model gets the first one of the default target",
    ("general_settings", "allowed_ips"): "addresses are refused (`cerbere.blacklist`), not let in: use a firewall",
    ("general_settings", "use_x_forwarded_for"): "name the proxies to believe in `cerbere.trusted_proxies`",
    ("general_settings", "custom_auth"): "write a middleware: docs/configuration.md, the chain",
    ("general_settings", "pass_through_endpoints"): "write a target with `mapping:` for each",
    ("general_settings", "max_parallel_requests"): _LIMITS,
    ("general_settings", "global_max_parallel_requests"): _LIMITS,
    (
        "environment_variables",
    ): "set them in the environment of the proxy, where their values are no one else's to read",
    ("include",): "import the other files by themselves",
    ("guardrails",): "write a middleware: docs/configuration.md, the chain",
    ("mcp_servers",): "tools are the client's: the proxy calls none",
    ("callback_settings",): _LOGS,
}


def recognise(data: Any) -> bool:
    """Whether this is a config.yaml of LiteLLM."""
    return isinstance(data, dict) and (
        isinstance(data.get("model_list"), list) or any(isinstance(data.get(name), dict) for name in SECTIONS)
    )


def convert(draft: Draft, environ: Mapping[str, str]) -> Imported:
    """Each model_name becomes a model, each server a target."""
    data = draft.document.data
    credentials = _credentials(draft, data.get("credential_list"))
    common = section(section(data, "router_settings"), "default_litellm_params")
    for position, entry in enumerate(items(data.get("model_list"))):
        if isinstance(entry, dict):
            _Deployment(draft, ("model_list", position), entry, credentials).convert(common)
    _aliases(draft, section(data, "router_settings"))
    _settings(draft, data)
    return draft.finish(REASONS)


def _text(value: Any) -> str:
    """A value as the text or the variable that it stands for; "" if it is neither."""
    if not isinstance(value, str):
        return ""
    name = value.removeprefix(_ENVIRON)
    return Variable(f"${{{name}}}") if name != value and is_variable_name(name) else value


def _credentials(draft: Draft, entries: Any) -> dict[str, tuple[Where, Data]]:
    """The values of each credential, by name, with where they stand."""
    found: dict[str, tuple[Where, Data]] = {}
    for position, entry in enumerate(items(entries)):
        if isinstance(entry, dict) and isinstance(entry.get("credential_name"), str):
            path = ("credential_list", position)
            found[entry["credential_name"]] = ((*path, "credential_values"), section(entry, "credential_values"))
            draft.say((*path, "credential_name"), "mapped to the targets of the models that name it")
            draft.drop((*path, "credential_info"), "it is a description")
    return found


class _Deployment:
    """One entry of model_list."""

    def __init__(self, draft: Draft, path: Where, entry: Data, credentials: Mapping[str, tuple[Where, Data]]) -> None:
        self._draft = draft
        self._path = path
        self._params_path = (*path, _PARAMS)
        self._params = section(entry, _PARAMS)
        self._name = _text(entry.get("model_name"))
        self._credential = credentials.get(str(self._params.get("litellm_credential_name")), ((), {}))

    def convert(self, common: Data) -> None:
        """Make a model of it, on a target; or say why not."""
        draft, name = self._draft, self._name
        provider_name, model = self._model()
        why = self._refusal(provider_name, model)
        if why:
            draft.drop(self._path, why)
            return
        provider = PROVIDERS[provider_name]
        target = draft.target(*self._target(provider_name, provider))
        self._tell_target(target)
        if name == "*":
            draft.data["targets"]["default"] = target
            draft.tell((*self._path, "model_name"), ("targets", "default"))
        self._put_model(target, model, common)

    def _model(self) -> tuple[str, str]:
        """The provider and what it calls the model."""
        model = _text(self._params.get("model"))
        said = _text(self._params.get("custom_llm_provider"))
        prefix, slash, rest = model.partition("/")
        if said:
            return said, rest if slash and prefix == said else model
        if slash and (prefix in PROVIDERS or prefix in REFUSED):
            return prefix, rest
        for beginnings, provider in _BARE:
            if not slash and model.startswith(beginnings):
                return provider, model
        return prefix if slash else "", rest if slash else model

    def _refusal(self, provider: str, model: str) -> str:
        if not self._name or not model:
            return "it has no model_name, or no litellm_params.model"
        if isinstance(model, Variable) or isinstance(self._name, Variable):
            return "which server has it is only known from the environment: write the target and the model yourself"
        if provider in REFUSED:
            return REFUSED[provider]
        if provider not in PROVIDERS:
            return f"{_unknown(provider)}: write a target with its url and `speaks`, and the model"
        if self._draft.has_model(self._name):
            return _POOL
        base = self._base(PROVIDERS[provider])
        if not base:
            return "expected api_base, the address of the server"
        wrong = wrong_url(base)
        return f"api_base cannot be a target's url: {wrong}" if wrong else ""

    def _given(self, name: str) -> tuple[Where, str]:
        """A setting of the server, from the model or else its credential, and where it stands."""
        if _text(self._params.get(name)):
            return (*self._params_path, name), _text(self._params[name])
        path, values = self._credential
        return (*path, name), _text(values.get(name))

    def _base(self, provider: Provider) -> str:
        given = self._given("api_base")[1] or self._given("base_url")[1]
        if not given and provider.base.startswith("$"):
            name = self._draft.need(provider.base[1:], "the address that LiteLLM takes from there")
            return Variable(f"${{{name}}}")
        if isinstance(given, Variable):
            self._draft.need(given[2:-1], "the address of a server")
            return given
        for ending in ("/v1/messages", "/v1/chat/completions", "/chat/completions"):
            given = given.removesuffix(ending)
        return given or provider.base

    def _target(self, provider_name: str, provider: Provider) -> tuple[str, Data]:
        """What to call the target, and its entry."""
        base = self._base(provider)
        hint = provider_name if base == provider.base else self._name
        if provider.speaks == ("openai",):
            entry = openai_server(base)
        else:
            speaks = list(provider.speaks)
            url = base if isinstance(base, Variable) else base.rstrip("/")
            entry = {"url": url, "speaks": speaks if len(speaks) > 1 else speaks[0]}
        variable = self._key(hint, provider)
        return hint, {"url": entry["url"], **({"envkey": variable} if variable else {}), **entry}

    def _key(self, hint: str, provider: Provider) -> str:
        path, value = self._given("api_key")
        what = f"the key of {hint}"
        if isinstance(value, Variable):
            return self._draft.need(value[2:-1], what)
        if not value:
            own_server = bool(self._given("api_base")[1])
            return self._draft.need(provider.key, what) if provider.key and not own_server else ""
        if value.lower() in STAND_INS:
            self._draft.say(path, "kept: it stands for no key, and none is sent")
            return ""
        return self._draft.secret(value, hint, what)

    def _tell_target(self, target: str) -> None:
        draft, ours = self._draft, ("targets", target)
        for name in ("api_base", "base_url"):
            path, value = self._given(name)
            if value:
                draft.tell(path, (*ours, "url"))
        path, value = self._given("api_key")
        if value and value.lower() not in STAND_INS:
            draft.tell(
                path,
                (*ours, "envkey"),
                "set the variable" if isinstance(value, Variable) else "the key is not written here: set the variable",
            )
        for name in ("custom_llm_provider", "litellm_credential_name"):
            if name in self._params:
                draft.tell((*self._params_path, name), ours)

    def _put_model(self, target: str, model: str, common: Data) -> None:
        draft, ours = self._draft, ("models", self._name)
        entry = {"target": target} if model == self._name else {"target": target, "name": model}
        draft.put((*self._path, "model_name"), ours, entry)
        draft.tell((*self._params_path, "model"), (*ours, "name" if "name" in entry else "target"))
        for name, value in common.items():
            if name in SETTINGS and name not in self._params:
                draft.put(("router_settings", "default_litellm_params", name), (*ours, "defaults", name), value)
        for name, value in self._params.items():
            if name in SETTINGS:
                draft.put((*self._params_path, name), (*ours, "defaults", name), value)


def _unknown(provider: str) -> str:
    is_told = provider and provider.isprintable()
    return f"the provider {provider} is not known here" if is_told else "its name does not tell the provider"


def _aliases(draft: Draft, router: Data) -> None:
    """model_group_alias: another name of a model, or a section that says so."""
    for alias, given in section(router, "model_group_alias").items():
        path: Where = ("router_settings", "model_group_alias", alias)
        model = given.get("model") if isinstance(given, dict) else given
        if draft.has_model(alias):
            draft.drop(path, "there is a model of this name")
            continue
        draft.copy_model((*path, "model") if isinstance(given, dict) else path, alias, str(model))
        if isinstance(given, dict) and "hidden" in given:
            draft.drop((*path, "hidden"), "models are listed as their servers list them")


def _settings(draft: Draft, data: Data) -> None:
    """What holds for all models."""
    _timeout(draft, data)
    if "drop_params" in section(data, "litellm_settings"):
        kept = "what a target cannot be told is left out and named; `losses` of a target can refuse it instead"
        draft.say(("litellm_settings", "drop_params"), f"kept: {kept}")
    general = section(data, "general_settings")
    most = general.get("max_request_size_mb")
    if isinstance(most, int):
        draft.put(("general_settings", "max_request_size_mb"), ("system", "max_body"), f"{most}MiB")
    _master_key(draft, general)


def _timeout(draft: Draft, data: Data) -> None:
    """The router's, or else that of LiteLLM."""
    found = [
        (where, name)
        for where, name in (("router_settings", "timeout"), ("litellm_settings", "request_timeout"))
        if section(data, where).get(name) is not None
    ]
    for position, (where, name) in enumerate(found):
        if position == 0:
            draft.put((where, name), ("system", "timeout"), section(data, where)[name])
        else:
            draft.drop((where, name), "router_settings.timeout wins over it")


def _master_key(draft: Draft, general: Data) -> None:
    what = "the key that clients send"
    if general.get("master_key") is not None:
        key = _text(general["master_key"])
        there = f"the value of {key[2:-1]}" if isinstance(key, Variable) else "the one that stood in the file"
        draft.say(("general_settings", "master_key"), "mapped to the variable MOOLTIPROXY_KEY")
        what = f"{what}: {there}"
    draft.need("MOOLTIPROXY_KEY", what)
