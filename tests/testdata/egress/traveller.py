"""Goes where the payload says, with an ordinary client, and tells what came of it."""
# ruff: noqa: ANN001, ANN002, ANN201, ANN202, ARG001, BLE001, FBT003, S310  # written as plugin authors write

import os
import socket
import ssl
import time
import urllib.error
import urllib.request

CA = "/plugin/ca.pem"
KEPT = []


def execute(ctx, payload):
    return [deed(*each) for each in payload["do"]]


def deed(how, *given):
    try:
        return globals()[how](*given)
    except urllib.error.HTTPError as error:
        return {"status": error.code, "reason": error.reason, "body": error.read().decode()}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def by_urllib(method, url, body=None):
    context = ssl.create_default_context(cafile=CA)
    opened = urllib.request.Request(url, method=method, data=None if body is None else body.encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(context=context))
    with opener.open(opened, timeout=15) as answer:
        return {"status": answer.status, "body": answer.read().decode()}


def size(url, count):
    """Send so many bytes and tell how many came back."""
    context = ssl.create_default_context(cafile=CA)
    with urllib.request.urlopen(url, data=b"x" * count, timeout=15, context=context) as answer:
        return len(answer.read())


def by_requests(method, url, body=None):
    import requests

    answer = requests.request(method, url, data=body, timeout=15, verify=CA)
    return {"status": answer.status_code, "body": answer.text, "reason": answer.reason}


def by_httpx(method, url, body=None):
    import httpx

    with httpx.Client(verify=ssl.create_default_context(cafile=CA), timeout=15, follow_redirects=True) as client:
        answer = client.request(method, url, content=body)
        return {"status": answer.status_code, "body": answer.text, "reason": answer.reason_phrase}


def by_httpx_async(method, url, body=None):
    import asyncio

    import httpx

    async def go():
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=CA), timeout=15) as client:
            answer = await client.request(method, url, content=body)
            return {"status": answer.status_code, "body": answer.text, "reason": answer.reason_phrase}

    return asyncio.run(go())


def certificates():
    return ssl.create_default_context().cert_store_stats()["x509_ca"]


def raw(text, wait_s=15):
    """Send bytes as they are to the relay and give the first bytes of its answer."""
    with socket.create_connection(("127.0.0.1", 3128), wait_s) as line:
        line.sendall(text.encode("latin-1"))
        told = b""
        while data := line.recv(65536):
            told += data
        return told.decode("latin-1")


def connect(target):
    """Open a tunnel and give the status line, and what an echo behind it says."""
    with socket.create_connection(("127.0.0.1", 3128), 15) as line:
        line.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        told = line.recv(65536).decode("latin-1")
        if " 200 " not in told.split("\r\n")[0]:
            return told
        line.sendall(b"hello")
        return line.recv(100).decode()


def hold(target):
    """Open a tunnel, say so by printing, and keep it until somebody ends it."""
    with socket.create_connection(("127.0.0.1", 3128), 15) as line:
        line.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        line.recv(65536)
        line.sendall(b"held")
        line.settimeout(60)
        while line.recv(100):
            pass


def pour(target, size):
    """Send through a tunnel more than anybody takes; tell how much went."""
    with socket.create_connection(("127.0.0.1", 3128), 15) as line:
        line.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        line.recv(65536)
        line.settimeout(2)
        sent = 0
        try:
            while sent < size:
                sent += line.send(bytes(65536))
        except OSError as error:
            return {"sent": sent, "ended": type(error).__name__}
        return {"sent": sent}


def flood(count, url):
    """Open connections that say nothing, half a head, or leave at once; then ask for something plain."""
    kept = []
    for number in range(count):
        if len(kept) == 40:
            while kept:
                kept.pop().close()
        line = socket.socket()
        line.setblocking(False)
        line.connect_ex(("127.0.0.1", 3128))
        if number % 4 == 0:
            line.close()
            continue
        kept.append(line)
        time.sleep(0.002)
        try:
            if number % 4 == 1:
                line.send(b"GET http://h")
            if number % 4 == 2:
                line.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    for line in kept:
        line.close()
    return by_urllib("GET", url)


def nap(seconds):
    time.sleep(seconds)


def beside_a_slow_one(url):
    with socket.create_connection(("127.0.0.1", 3128), 15) as slow:
        slow.sendall(b"GET http://x")
        other = by_urllib("GET", url)
        return {"slow": slow.recv(13).decode(), "other": other}


def many(count, url):
    """Ask at once on so many connections."""
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        return [each["status"] for each in threads.map(lambda _: by_urllib("GET", url), range(count))]


def leave_open(count, target):
    """Open tunnels and end without closing them."""
    for _ in range(count):
        line = socket.create_connection(("127.0.0.1", 3128), 15)
        line.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        line.recv(65536)
        KEPT.append(line)
    return len(KEPT)


def speak_and_listen(target):
    """Say something in a tunnel, have no more to say, and hear the rest."""
    with socket.create_connection(("127.0.0.1", 3128), 15) as line:
        line.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        line.recv(65536)
        line.sendall(b"the last words")
        line.shutdown(socket.SHUT_WR)
        told = b""
        while data := line.recv(100):
            told += data
        return told.decode()


def say_and_go(target):
    """Say something in a tunnel and end at once."""
    with socket.create_connection(("127.0.0.1", 3128), 15) as line:
        line.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        line.recv(65536)
        line.sendall(b"said in parting")


def leave_a_daemon(url):
    """Leave a process behind that goes on asking."""
    by_urllib("GET", url)
    if os.fork() == 0:
        os.setsid()
        while True:
            deed("by_urllib", "GET", url)
