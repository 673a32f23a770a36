"""Uses a client that was made from the OpenAPI document: asks, registers, approves, executes, and meets a problem."""

import json
import sys

base, key = sys.argv[1:]

from made import AuthenticatedClient, models  # noqa: E402
from made.api.decisions import decisions_ask  # noqa: E402
from made.api.plugins import plugins_approve, plugins_execute, plugins_register  # noqa: E402

client = AuthenticatedClient(base_url=base, token=key)
asked = models.DecisionBody(subject="user:tess", permission="vault_read", scope="notes")
decided = decisions_ask.sync_detailed(client=client, body=asked)
folder = models.PluginsRegisterBody.from_dict({"folder": "adder"})
registered = plugins_register.sync_detailed(client=client, body=folder)
approved = plugins_approve.sync_detailed("adder", client=client, body=models.ReasonBody(reason="tried here"))
payload = models.ExecuteBodyPayload.from_dict({"action": "add", "a": 2, "b": 3})
call = models.ExecuteBody(payload=payload)
executed = plugins_execute.sync_detailed("adder", client=client, body=call)
missing = plugins_execute.sync_detailed("nobody", client=client, body=call)
sys.stdout.write(
    json.dumps(
        {
            "statuses": [int(each.status_code) for each in (decided, registered, approved, executed, missing)],
            "effect": decided.parsed["effect"],
            "output": executed.parsed["output"],
            "problem": [type(missing.parsed).__name__, missing.parsed.type_],
        }
    )
)
