"""Ops that ask other programs: lookups in databases, tables and web services; the crawl of a web site.

lookup         ``lookup``: its tasks, and the item or row that each looks up.
lookup_tables  What SQLite and CSV files have for a value.
services       What a web service has for a value: its URL, tries, and answers as Python values.
crawl          ``crawl``: the rounds of a crawl as tasks of the one Graph.
fetching       The task that requests some pages of a site, within the limits of the crawl.
frontier       What a crawl has found so far: depths, the URLs to request next, the table of links.
page_links     The links of an HTML page, with their kinds.
urls           URLs in one normal form; a site: scheme, host and port.
robots         robots.txt, as RFC 9309 has it.
page_records   What is kept of a requested page, in memory and in the files of ``state``.
http_client    One connection to one site: every request has a deadline and a largest size.
turns          Pauses that end with the run, and a rate that all processes of a machine share.
connections    Connections of a worker, kept from one task to the next.
libraries      Whether the libraries of an extra are installed.
"""
