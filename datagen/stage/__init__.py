"""A scene to click in: what one sees from where one clicked, and what could be asked about it. The playground's other end
(`ipt.app`), which talks to it through pipes, since nothing of ``ipt`` imports a simulator."""
