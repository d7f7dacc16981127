# wrk, the load generator that the bench compares its own with. A program, not a server: up installs it.
# shellcheck shell=bash

wrk_up() { need_package wrk wrk; }
