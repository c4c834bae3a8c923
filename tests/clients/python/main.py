"""Runs the cases of the Python clients: `main.py [FILTER]`."""

import logging
import sys

import suite


def main():
    if not suite.BOOTSTRAP:
        sys.exit("CONVEYOR_BOOTSTRAP=host:port is not set")
    logging.basicConfig(level=logging.WARNING)
    import aiokafka_cases
    import confluent_cases
    import kafka_python_cases

    name_filter = sys.argv[1] if len(sys.argv) > 1 else ""
    ran = failed = 0
    for one in (confluent_cases.suite, kafka_python_cases.suite, aiokafka_cases.suite):
        more, bad = one.run(name_filter)
        ran, failed = ran + more, failed + bad
    print(f"python: {ran - failed} passed, {failed} failed", flush=True)
    sys.exit(0 if ran and not failed else 1)


main()
