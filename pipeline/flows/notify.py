"""Have Prefect's server tell somebody when a nightly atlas fails: ``python -m pipeline.flows.notify``.

The address, of a webhook that takes ``{"text": ...}`` (Slack, Mattermost, Teams' and many others do), comes from the
environment and is kept as a secret of a block; it is in no automation, log or command line.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.types import SecretDict

from export.errors import AtlasError, ConfigError

VARIABLE = "NEURON_ATLAS_NOTIFY_URL"
BLOCK = "atlas-failed"
NAME = "tell of a nightly atlas that has failed"
TAG = "nightly"
"""Of the deployments whose runs are told of; helpers have it not, whose failures cost nothing."""

SUBJECT = "{{ flow_run.name }} of {{ deployment.name }} is {{ flow_run.state.name }}"
BODY = """{{ flow_run.state.message }}
Last night's site is still shown. When the cause is gone: prefect deployment run {{ flow.name }}/{{ deployment.name }}
{{ flow_run|ui_url }}"""


def notify_at(url: str) -> str:
    """Make the block and the automation, or change those that there are.

    Returns:
        A sentence that says what is told where; the host of the address, and no more of it.

    Raises:
        ConfigError: it is no address of a webhook.
    """
    host = urlsplit(url).hostname
    if urlsplit(url).scheme not in ("http", "https") or not host:
        raise ConfigError(f"{VARIABLE} must hold the address of a webhook, https://...")
    block = CustomWebhookNotificationBlock(
        name=BLOCK,
        url="{{address}}",
        json_data={"text": "{{subject}}\n{{body}}"},
        headers=None,
        cookies=None,
        secrets=SecretDict({"address": url}),
    )
    automation = _automation(block.save(BLOCK, overwrite=True))
    found = _known()
    if found is None:
        automation.create()
    else:
        automation.id = found
        automation.update()
    return f"a run tagged {TAG} that fails or crashes is told at {host}"


def _automation(block_id: Any) -> Automation:
    return Automation(
        name=NAME,
        description=f"Made by python -m pipeline.flows.notify; the address is in the block {BLOCK}.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
            ),
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[SendNotification(block_document_id=block_id, subject=SUBJECT, body=BODY)],
    )


def _known() -> Any:
    """Id of the automation, None if there is none."""
    try:
        return cast(Automation, Automation.read(name=NAME)).id
    except ValueError:
        return None


def main() -> int:
    """Run the command; exit with 0 done, 2 bad input."""
    try:
        url = os.environ.get(VARIABLE)
        if not url:
            raise ConfigError(f"set {VARIABLE} to the address of a webhook that takes JSON with a text")
        print(notify_at(url))
    except AtlasError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
