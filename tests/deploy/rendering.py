"""Render charts with Helm's own engine, in a process of its own: `python rendering.py < requests.json`."""

import json
import sys

import helm_python


def main() -> None:
    """Read requests, each a chart and values, and write for each its manifests or Helm's error."""
    answers: list[dict[str, object]] = []
    for request in json.load(sys.stdin):
        with helm_python.Chart.load(request["chart"]) as chart:
            try:
                answers.append({"manifests": chart.render(request["values"], name="q", namespace="lake")})
            except helm_python.HelmError as error:
                answers.append({"error": str(error)})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
