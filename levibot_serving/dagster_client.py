"""Queues runs in Dagster over its GraphQL API, and finds those that were queued. The one thing asked of Dagster here.

The queries are held against Dagster's own schema by the tests; Dagster itself is not imported.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from levibot_core.errors import LevibotError

LAUNCH: Final = """
mutation Launch($parameters: ExecutionParams!) {
  launchRun(executionParams: $parameters) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
FIND: Final = """
query Find($filter: RunsFilter!) {
  runsOrError(filter: $filter, limit: 1) {
    __typename
    ... on Runs { results { runId } }
    ... on Error { message }
  }
}
"""
_LOCATION, _REPOSITORY = "levibot", "__repository__"


class DagsterUnavailableError(LevibotError):
    """Dagster does not answer, or refuses."""


class DagsterClient:
    """The Dagster web server at an address.

    Args:
        url: Such as http://127.0.0.1:3000; None where nobody said.
        timeout_s: Seconds that one answer may take.
    """

    def __init__(self, url: str | None, timeout_s: float = 10.0) -> None:
        self._url = url
        self._timeout_s = timeout_s

    def launch(self, job: str, config: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Queue a run of a job; returns its id.

        Raises:
            DagsterUnavailableError: it was not queued; the message says what to do.
        """
        parameters = {
            "selector": {"repositoryLocationName": _LOCATION, "repositoryName": _REPOSITORY, "jobName": job},
            "runConfigData": config,
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        found = self._ask(LAUNCH, {"parameters": parameters})["launchRun"]
        if found["__typename"] != "LaunchRunSuccess":
            problems = [found.get("message"), *(error["message"] for error in found.get("errors", ()))]
            raise DagsterUnavailableError(
                f"Expected Dagster to queue the job {job}, was {found['__typename']}: "
                f"{'; '.join(problem for problem in problems if problem)}. See the Dagster UI."
            )
        return str(found["run"]["runId"])

    def find(self, tag: str, value: str) -> str | None:
        """The id of the newest run with a tag of that value; None where there is none.

        Raises:
            DagsterUnavailableError: Dagster does not answer.
        """
        found = self._ask(FIND, {"filter": {"tags": [{"key": tag, "value": value}]}})["runsOrError"]
        results = found.get("results", ())
        return str(results[0]["runId"]) if results else None

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        if self._url is None:
            raise DagsterUnavailableError(
                "Expected LEVIBOT_DAGSTER_URL to name a Dagster web server, such as http://127.0.0.1:3000 "
                "of `make up`, was not set. Set it and start the API again."
            )
        address = f"{self._url.rstrip('/')}/graphql"
        try:
            response = httpx.post(address, json={"query": query, "variables": variables}, timeout=self._timeout_s)
            response.raise_for_status()
            answer = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise DagsterUnavailableError(
                f"Expected an answer of Dagster at {httpx.URL(self._url).copy_with(userinfo=b'')}, was "
                f"{type(error).__name__}. Start it with `make up`, or correct LEVIBOT_DAGSTER_URL."
            ) from error
        if "data" not in answer or answer["data"] is None:
            raise DagsterUnavailableError(f"Expected data from Dagster, was {str(answer)[:200]}.")
        data: dict[str, Any] = answer["data"]
        return data
