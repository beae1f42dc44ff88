/* SPDX-License-Identifier: Apache-2.0 */
#include "collectord/report_text.h"
#include "collectord/web/page.h"

#define LOST_SHOWN 20                              /* the last losses; telemetryctl lost has all */

static const char head[] =
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        /* Nothing but what stands in this page may run or be fetched, whatever a value in it says. */
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:\">\n"
        "<noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>\n"
        "<link rel=\"icon\" href=\"data:,\">\n"
        "<style>\n"
        ":root{color-scheme:light dark;--text:#1c2126;--dim:#66707a;--line:#dfe3e8;--ground:#fff;--panel:#f6f8fa;--good:#1a7f37;--warn:#9a6700;"
        "--bad:#cf222e;--bar:#0969da}\n"
        "@media(prefers-color-scheme:dark){:root{--text:#e2e6ea;--dim:#8f99a3;--line:#30363d;--ground:#0f1419;--panel:#171d23;--good:#3fb950;"
        "--warn:#d29922;--bad:#f85149;--bar:#4493f8}}\n"
        "*{box-sizing:border-box}\n"
        "body{margin:0 auto;max-width:78rem;padding:1.2rem;background:var(--ground);color:var(--text);font:15px/1.45 system-ui,sans-serif}\n"
        "h1{font-size:1.35rem;margin:0}h2{font-size:1rem;margin:1.8rem 0 .5rem}\n"
        "header{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:baseline}\n"
        ".dim{color:var(--dim)}.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}\n"
        ".state{font-weight:600}.wide{overflow-x:auto}\n"
        "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
        "th,td{text-align:left;padding:.28rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}\n"
        "th{color:var(--dim);font-weight:500;font-size:.85rem}td.n,th.n{text-align:right}td.text{white-space:normal;min-width:14rem}\n"
        "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.8rem 0}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}\n"
        "pre{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;overflow-x:auto;margin:.4rem 0}\n"
        "progress{width:14rem;max-width:50%;accent-color:var(--bar);vertical-align:middle}\n"
        "a{color:var(--bar)}footer{margin-top:2rem;font-size:.9rem}\n"
        ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:0 2rem}\n"
        "</style>\n";

/* Renews main from a fresh copy of the page, so scroll position and selection outside of it stay. */
static const char script[] =
        "<script>\n"
        "setInterval(async()=>{\n"
        " if(document.hidden||!getSelection().isCollapsed)return;\n"
        " const note=document.getElementById('note');\n"
        " try{\n"
        "  const answer=await fetch('/',{cache:'no-store'});\n"
        "  const fresh=new DOMParser().parseFromString(await answer.text(),'text/html');\n"
        "  document.querySelector('main').replaceWith(fresh.querySelector('main'));document.title=fresh.title;note.textContent='';\n"
        " }catch(e){note.textContent='collectord does not answer; these figures are old.'}\n"
        "},2000);\n"
        "</script>\n";

/* ---- writing ---- */

static void escaped(FILE *to, const char *s) {
        for (; *s; s++)
                switch (*s) {
                case '&': fputs("&amp;", to); break;
                case '<': fputs("&lt;", to); break;
                case '>': fputs("&gt;", to); break;
                case '"': fputs("&quot;", to); break;
                case '\'': fputs("&#39;", to); break;
                default: fputc(*s, to);
                }
}

static const json_t *get(const json_t *o, const char *key) {
        return json_object_get(o, key);
}

static void cell(FILE *to, const char *class, const char *text) {
        fprintf(to, *class ? "<td class=\"%s\">" : "<td>", class);
        escaped(to, text);
        fputs("</td>", to);
}

static void cell_string(FILE *to, const json_t *o, const char *key) {
        cell(to, "", report_string(get(o, key)));
}

static void cell_count(FILE *to, const json_t *o, const char *key, bool bad) {
        char out[REPORT_HUMAN_MAX];
        cell(to, bad && json_integer_value(get(o, key)) > 0 ? "n bad" : "n", report_count(out, get(o, key)));
}

static void cell_bytes(FILE *to, const json_t *o, const char *key) {
        char out[REPORT_HUMAN_MAX];
        cell(to, "n", report_bytes(out, get(o, key)));
}

static void cell_age(FILE *to, const json_t *o, const char *key) {
        char out[REPORT_HUMAN_MAX];
        cell(to, "n", report_age(out, get(o, key)));
}

/* One that begins with '>' stands right. */
static void heads(FILE *to, const char *const *names) {
        fputs("<div class=\"wide\"><table><thead><tr>", to);
        for (; *names; names++)
                fprintf(to, **names == '>' ? "<th class=\"n\" scope=\"col\">%s</th>" : "<th scope=\"col\">%s</th>",
                        *names + (**names == '>'));
        fputs("</tr></thead><tbody>\n", to);
}
static const char table_end[] = "</tbody></table></div>\n";

/* Service and buffer states alike: the colour never stands alone, the word says it too. */
static const char *state_class(const char *state) {
        static const char *const classes[][2] = {
                { "RUNNING", "state good" }, { "FLOWING", "state good" }, { "FLUSHING", "state good" },
                        { "STARTING", "state dim" },
                { "STOPPING", "state dim" }, { "STOPPED", "state dim" }, { "DEGRADED", "state warn" },
                        { "BUFFERING", "state warn" },
        };
        for (size_t i = 0; i < TEL_ARRAY_LEN(classes); i++)
                if (strcmp(classes[i][0], state) == 0)
                        return classes[i][1];
        return "state bad";                        /* DROPPING, FAILED */
}

/* ---- sections ---- */

static void fact(FILE *to, const char *name, const char *value) {
        fprintf(to, "<dt>%s</dt><dd>", name);
        escaped(to, value);
        fputs("</dd>\n", to);
}

static void daemon_part(const json_t *s, FILE *to) {
        const json_t *process = get(s, "process"), *reload = get(s, "reload");
        char a[REPORT_HUMAN_MAX], b[REPORT_HUMAN_MAX], text[160];
        const char *state = report_string(get(s, "state"));
        fprintf(to, "<header><h1>collectord</h1><span class=\"%s\">%s</span><span class=\"dim\">%s on ",
                state_class(state), state,
                report_string(get(s, "version")));
        escaped(to, report_string(get(s, "host")));
        fprintf(to, ", up %s</span></header>\n<dl>", report_age(a, get(s, "uptime_s")));
        fact(to, "settings", json_is_string(get(s, "config")) ? report_string(get(s, "config"))
             : "built in: the consumer on this machine");
        if (json_is_true(get(reload, "last_refused")))
                fputs("<dt>reload</dt><dd class=\"bad\">the last one was refused; the former settings go on</dd>\n", to);
        snprintf(text, sizeof(text), "pid %" JSON_INTEGER_FORMAT ", %s resident, %s of processor",
                 json_integer_value(get(process, "pid")),
                 report_bytes(a, get(process, "resident_bytes")), report_age(b, get(process, "cpu_s")));
        fact(to, "process", text);
        fact(to, "OTLP/HTTP", report_string(get(get(s, "listen"), "otlp_http")));
        fact(to, "frames", report_string(get(get(s, "listen"), "frames")));
        fact(to, "control", report_string(get(get(s, "listen"), "control")));
        fputs("</dl>\n", to);
}

static void signal_row(const json_t *d, const json_t *o, bool first, FILE *to) {
        const json_t *requests = get(o, "requests");
        char a[REPORT_HUMAN_MAX], reasons[REPORT_REASONS_MAX];
        const char *state = report_string(get(o, "state"));
        fputs("<tr>", to);
        if (first) {
                fprintf(to, "<td rowspan=\"%zu\"><b>", json_array_size(get(d, "signals")));
                escaped(to, report_string(get(d, "name")));
                fputs("</b><br><span class=\"dim\">", to);
                escaped(to, json_is_string(get(d, "url")) ? report_string(get(d, "url")) : report_string(get(d, "type")));
                fputs("</span></td>", to);
        }
        cell_string(to, o, "signal");
        cell(to, state_class(state), state);
        cell_count(to, o, "waiting", false);
        cell_bytes(to, o, "waiting_bytes");
        cell_age(to, o, "oldest_s");
        cell_count(to, o, "in_flight", false);
        cell_count(to, o, "delivered", false);
        cell_count(to, o, "filtered", false);
        cell_count(to, o, "rejected", true);
        cell(to, json_integer_value(get(o, "dropped")) > 0 ? "n bad" : "n", report_reasons(reasons, get(o, "dropped_by")));
        fputs("<td class=\"text\">", to);
        if (json_is_string(get(requests, "last_error"))) {
                escaped(to, report_string(get(requests, "last_error")));
                fprintf(to, " <span class=\"dim\">%s ago", report_age(a, get(requests, "last_failure_s")));
                if (json_is_number(get(requests, "next_attempt_s")))
                        fprintf(to, ", next try in %s", report_age(a, get(requests, "next_attempt_s")));
                fputs("</span>", to);
        }
        fputs("</td></tr>\n", to);
}

static void destinations_part(const json_t *destinations, FILE *to) {
        static const char *const names[] = { "destination", "signal", "state", ">waiting", ">bytes", ">oldest",
                                             ">sending", ">delivered", ">filtered",
                                             ">rejected", ">dropped", "last error", NULL };
        size_t i, k;
        json_t *d, *o;
        fputs("<h2>Destinations</h2>\n", to);
        if (json_array_size(destinations) == 0) {
                fputs("<p>None. What comes in stays in the buffer until it is trimmed.</p>\n", to);
                return;
        }
        heads(to, names);
        json_array_foreach(destinations, i, d)
                json_array_foreach(get(d, "signals"), k, o)
                        signal_row(d, o, k == 0, to);
        fputs(table_end, to);
}

static void sources_part(const json_t *sources, FILE *to) {
        static const char *const names[] = { "transport", "signal", ">accepted", ">rate", ">refused",
                                             ">turned away", ">requests", ">bytes", NULL };
        char a[REPORT_HUMAN_MAX];
        size_t i, k;
        json_t *o, *s;
        fputs("<h2>Sources</h2>\n", to);
        heads(to, names);
        json_array_foreach(sources, i, o)
                json_array_foreach(get(o, "signals"), k, s) {
                        if (strcmp(report_string(get(s, "signal")), "profiles") == 0)
                                continue;          /* no listener takes them yet */
                        fputs("<tr>", to);
                        cell_string(to, o, "transport");
                        cell_string(to, s, "signal");
                        cell_count(to, s, "accepted", false);
                        cell(to, "n", report_rate(a, get(s, "per_s")));
                        cell_count(to, s, "refused", true);
                        cell_count(to, s, "failed", true);
                        cell_count(to, s, "requests", false);
                        cell_bytes(to, s, "bytes");
                        fputs("</tr>\n", to);
                }
        fputs(table_end, to);
        fprintf(to, "<p class=\"dim\">Rates are over the last %s.</p>\n",
                report_age(a, get(json_array_get(sources, 0), "rate_window_s")));
}

static void producers_part(const json_t *sources, FILE *to) {
        static const char *const names[] = { "producer", ">pid", ">connected", ">frames", ">items", ">came twice",
                                             ">lost there", "says", NULL };
        size_t i, n = 0;
        json_t *o;
        json_array_foreach(sources, i, o) {
                if (strcmp(report_string(get(o, "type")), "producer") != 0)
                        continue;
                if (n++ == 0) {
                        fputs("<h2>Producers on the frame socket</h2>\n", to);
                        heads(to, names);
                }
                fputs("<tr>", to);
                cell(to, "", json_is_true(get(o, "lines")) ? "(lines)" : report_string(get(o, "name")));
                cell_count(to, o, "pid", false);
                cell_age(to, o, "connected_s");
                cell_count(to, o, "frames", false);
                cell_count(to, o, "items", false);
                cell_count(to, o, "duplicates", false);
                cell_count(to, o, "dropped_frames", true);
                cell(to, "text", report_string(get(o, "status")));
                fputs("</tr>\n", to);
        }
        if (n > 0)
                fputs(table_end, to);
}

static void budget_row(const json_t *b, const char *name, FILE *to) {
        char now[REPORT_HUMAN_MAX], limit[REPORT_HUMAN_MAX], peak[REPORT_HUMAN_MAX];
        fprintf(to, "<dt>%s</dt><dd><progress max=\"%" JSON_INTEGER_FORMAT "\" value=\"%" JSON_INTEGER_FORMAT "\"></progress> %s of %s "
                "<span class=\"dim\">at most %s so far</span></dd>\n", name, json_integer_value(get(b, "limit_bytes")),
                json_integer_value(get(b, "bytes")), report_bytes(now, get(b, "bytes")),
                        report_bytes(limit, get(b, "limit_bytes")),
                report_bytes(peak, get(b, "peak_bytes")));
}

static void buffer_part(const json_t *s, FILE *to) {
        static const char *const names[] = { "spool", ">held", ">records", ">segments", ">oldest", ">items so far", NULL };
        const json_t *budgets = get(s, "budgets");
        size_t i;
        json_t *o;
        fputs("<h2>Buffer</h2>\n<div class=\"cards\"><dl>", to);
        budget_row(get(budgets, "spool"), "buffer", to);
        budget_row(get(budgets, "ingest"), "bodies in", to);
        budget_row(get(budgets, "egress"), "bodies out", to);
        fputs("</dl>\n", to);
        heads(to, names);
        json_array_foreach(get(s, "spools"), i, o) {
                fputs("<tr>", to);
                cell_string(to, o, "signal");
                cell_bytes(to, o, "bytes");
                cell_count(to, o, "records", false);
                cell_count(to, o, "segments", false);
                cell_age(to, o, "oldest_s");
                cell_count(to, o, "appended_items", false);
                fputs("</tr>\n", to);
        }
        fputs(table_end, to);
        fputs("</div>\n", to);
}

static void lost_part(const json_t *lost, FILE *to) {
        static const char *const names[] = { "last", "destination", "signal", ">items", ">bytes", "reason", "text", NULL };
        size_t n = json_array_size(lost);
        fputs("<h2>Last losses</h2>\n", to);
        if (n == 0) {
                fputs("<p>Nothing was lost.</p>\n", to);
                return;
        }
        heads(to, names);
        for (size_t i = 0; i < n && i < LOST_SHOWN; i++) {
                const json_t *o = json_array_get(lost, n - 1 - i);     /* newest first */
                fputs("<tr>", to);
                cell_string(to, o, "last");
                cell_string(to, o, "destination");
                cell_string(to, o, "signal");
                cell_count(to, o, "items", false);
                cell_bytes(to, o, "bytes");
                cell_string(to, o, "reason");
                cell(to, "text", json_is_string(get(o, "text")) ? report_string(get(o, "text")) : "");
                fputs("</tr>\n", to);
        }
        fputs(table_end, to);
}

static void first_record_part(const json_t *s, FILE *to) {
        const json_t *http = get(get(s, "listen"), "otlp_http"), *frames = get(get(s, "listen"), "frames");
        fputs("<h2>Send a first record</h2>\n", to);
        if (json_is_string(frames)) {
                fputs("<pre>echo &#39;{&quot;log&quot;:&quot;hello&quot;,&quot;level&quot;:&quot;info&quot;,&quot;service&quot;:&quot;try&quot;}&#39; | socat - UNIX-CONNECT:", to);
                escaped(to, json_string_value(frames));
                fputs("</pre>\n", to);
        }
        if (json_is_string(http)) {
                fputs("<pre>curl http://", to);
                escaped(to, json_string_value(http));
                fputs("/v1/logs -H &#39;Content-Type: application/json&#39; \\\n  -d &#39;{&quot;resourceLogs&quot;:[{&quot;scopeLogs&quot;:[{&quot;logRecords&quot;:"
                      "[{&quot;body&quot;:{&quot;stringValue&quot;:&quot;hello&quot;}}]}]}]}&#39;</pre>\n", to);
        }
        fputs("<p>and see it with <code>telemetryctl tap logs --back 5m</code>.</p>\n", to);
}

void page_put(const struct page_parts *p, FILE *to) {
        fputs(head, to);
        fputs("<title>collectord: ", to);
        escaped(to, report_string(get(p->status, "state")));
        fputs("</title>\n</head>\n<body>\n<p id=\"note\" class=\"bad\" role=\"status\"></p>\n<main>\n", to);
        daemon_part(p->status, to);
        destinations_part(p->destinations, to);
        sources_part(p->sources, to);
        producers_part(p->sources, to);
        buffer_part(p->status, to);
        lost_part(p->lost, to);
        first_record_part(p->status, to);
        fputs("</main>\n<footer class=\"dim\"><a href=\"/metrics\">/metrics</a> · <a href=\"/api/v1/status\">status</a> · "
              "<a href=\"/api/v1/destinations\">destinations</a> · <a href=\"/api/v1/sources\">sources</a> · <a href=\"/api/v1/lost\">lost</a> as JSON</footer>\n", to);
        fputs(script, to);
        fputs("</body>\n</html>\n", to);
}
