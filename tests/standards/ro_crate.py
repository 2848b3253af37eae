"""Validates an RO-Crate with roc-validator, without network.

The validator asks the web for the two JSON-LD contexts of a Workflow Run crate. Here they are answered from a context
of our own, which holds the terms that the export writes and nothing else: a key without a term fails, as it should.
"""

import email.message
import io
import json
import sys
import urllib.request
import urllib.response

import requests.adapters
import urllib3

SCHEMA = "http://schema.org/"
OF_SCHEMA = """
    CreativeWork Dataset ComputerLanguage ControlAction CreateAction HowTo HowToStep OrganizeAction Person PropertyValue
    SoftwareApplication SoftwareSourceCode about actionStatus agent alternateName contentSize datePublished description
    encodingFormat endTime hasPart identifier instrument license mainEntity mentions name object position
    programmingLanguage result softwareVersion startTime step value version workExample
""".split()
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": {term: SCHEMA + term for term in OF_SCHEMA}
    | {
        "File": SCHEMA + "MediaObject",
        "conformsTo": "http://purl.org/dc/terms/conformsTo",
        "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    },
    "https://w3id.org/ro/terms/workflow-run/context": {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"},
}
PROFILES = ["ro-crate-1.1", "process-run-crate-0.5", "workflow-run-crate-0.5", "provenance-run-crate-0.5"]


def document(url):
    """The context at a URL, as JSON-LD text; None for all else."""
    terms = CONTEXTS.get(url.split("#")[0].rstrip("/"))
    return terms and json.dumps({"@context": terms}).encode()


def answer(adapter, request, **_options):
    """What `requests` hears from the web."""
    found = document(request.url)
    raw = urllib3.HTTPResponse(
        body=io.BytesIO(found or b""),
        status=200 if found else 404,
        headers={"Content-Type": "application/ld+json"},
        preload_content=False,
        request_url=request.url,
    )
    return adapter.build_response(request, raw)


class Web(urllib.request.HTTPSHandler):
    """What `urllib` hears from the web."""

    def https_open(self, request):
        found = document(request.full_url)
        if not found:
            raise OSError(f"no network in this check: {request.full_url}")
        headers = email.message.Message()
        headers["Content-Type"] = "application/ld+json"
        response = urllib.response.addinfourl(io.BytesIO(found), headers, request.full_url, 200)
        response.msg = "OK"
        return response


def validate(crate):
    """Gives the number of violations of the REQUIRED level, over all profiles."""
    requests.adapters.HTTPAdapter.send = answer
    urllib.request.install_opener(urllib.request.build_opener(Web))
    from rocrate_validator import models, services

    violations = 0
    for profile in PROFILES:
        settings = {
            "rocrate_uri": crate,
            "profile_identifier": profile,
            "requirement_severity": models.Severity.REQUIRED,
            "abort_on_first": False,
        }
        result = services.validate(settings)
        issues = result.get_issues()
        for issue in issues:
            print(f"  {profile}: {issue.check.identifier} {issue.message}")
        print(f"{profile}: {'valid' if not issues else f'{len(issues)} violations'} at level REQUIRED")
        violations += len(issues)
    return violations


if __name__ == "__main__":
    sys.exit(1 if validate(sys.argv[1]) else 0)
