"""What the scenarios of the conformance suites call."""

import time

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
TEXT = {"type": "text", "text": "Multiple content types test:"}
IMAGE = {"type": "image", "data": PIXEL, "mimeType": "image/png"}


def simple_text(ctx):
    return "This is a simple text response for testing."


def image_content(ctx):
    return {"content": [IMAGE]}


def audio_content(ctx):
    return {"content": [{"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}]}


def embedded_resource(ctx):
    return {"content": [resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")]}


def multiple_content_types(ctx):
    blocks = [TEXT, IMAGE, resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')]
    return {"content": blocks}


def error_handling(ctx):
    raise RuntimeError("This tool intentionally returns an error for testing")


def tool_with_progress(ctx):
    for step in range(3):
        ctx.progress(step / 2)
        time.sleep(0.05)
    return "done"


def wait(ctx):
    time.sleep(60)


def logging_tool(ctx):
    ctx.log("a line for the outcome's record")
    return "done"


def streaming_elicitation(ctx):
    return ctx.vault.list("user_data/asked")


input_required_result_elicitation = streaming_elicitation
input_required_result_request_state = streaming_elicitation
input_required_result_tampered_state = streaming_elicitation


def resource(uri, mime_type, text):
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": text}}
