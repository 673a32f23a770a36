"""Weather: tells tomorrow's weather for a city, as a weather service has it.

`upstream` is the service's address, such as `https://api.weather.test`. The caller names it, so that
the same plugin works with the public service and with one of your own; what may be reached is not the
caller's to say. The manifest asks for `api.weather.test` alone: for another host an operator adds a rule,

    p, weather-own, plugin:weather, network, read, weather.example.org, rate(100/60s), allow, our own service

and for a service on this machine or in a private network that rule must name `host:port` literally,
as `127.0.0.1:8123`.
"""

from urllib.parse import urlencode


def forecast(ctx, city, upstream):
    reply = ctx.http.get(f"{upstream.rstrip('/')}/v1/forecast?{urlencode({'city': city})}")
    if reply.status != 200:  # noqa: PLR2004 (HTTP's OK)
        raise RuntimeError(f"the weather service answered {reply.status}")
    weather = reply.json()
    return {"city": city, "summary": weather["summary"], "temperature_c": weather["temperature_c"]}
