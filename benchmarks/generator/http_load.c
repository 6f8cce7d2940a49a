/* Open-loop HTTP load on loopback: latency is counted from the scheduled time, so a stalled server cannot hide.
 *
 *   http_load NODES FILE CONNECTIONS RATE SECONDS MODE [DEADLINE_MS]
 *
 * NODES are up to eight PORTs or IPV4:PORTs with commas between them; connections are dealt out to them in turn. FILE holds requests, each a line "LENGTH\n" and that many bytes of raw HTTP/1.1 with keep-alive. RATE is arrivals a
 * second (exponential gaps, fixed seed); 0 = closed loop, as fast as the connections go. MODE is "single", or "pair":
 * requests come in twos on one connection, the second has a place of sixteen '@' that the "log_position" of the first
 * one's answer fills, and one latency is that of both. "across" is the same with the second one sent to the next node, so
 * what one node acknowledged is asked of another one. Prints one line of JSON, times in microseconds.
 *
 * "count", rate and latencies are those of answers 200 alone; others are "errors", and 503 and 429 of them "refused" too.
 * With DEADLINE_MS the server may refuse: "refused" are no errors then, and "good" is how many answers came within the
 * deadline. What could not even be sent before the end of the time, as every connection was busy, is "unsent".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX (1 << 18)
#define CONNECTIONS_MAX 512
#define TOKEN 16
#define NODES_MAX 8

typedef struct {
    int fds[2], busy, second; /* of the first request of two, and of the second: one and the same unless "across" */
    double scheduled, began;
    size_t got, sent, length;
    char *out, *answer;
    long request;
} connection;

static char **requests;
static size_t *lengths;
static long request_count, next_request;
static connection connections[CONNECTIONS_MAX];
static double *latencies;
static long done, errors, latencies_max, refused, good;
static int pair, across;
static double deadline;
static struct sockaddr_in nodes[NODES_MAX];
static int node_count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void read_requests(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) fail(path);
    size_t room = 1024, length;
    requests = malloc(room * sizeof *requests);
    lengths = malloc(room * sizeof *lengths);
    while (fscanf(f, "%zu", &length) == 1) {
        fgetc(f);
        if ((size_t)request_count == room) {
            room *= 2;
            requests = realloc(requests, room * sizeof *requests);
            lengths = realloc(lengths, room * sizeof *lengths);
        }
        requests[request_count] = malloc(length);
        if (fread(requests[request_count], 1, length, f) != length) fail("short request");
        lengths[request_count++] = length;
    }
    fclose(f);
    if (!request_count) fail("no requests");
}

static void read_nodes(char *text) {
    for (char *each = strtok(text, ","); each; each = strtok(NULL, ",")) {
        char *colon = strchr(each, ':'), *port = colon ? colon + 1 : each;
        if (colon) *colon = 0;
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
        if (node_count == NODES_MAX || !a.sin_port || !inet_aton(colon ? each : "127.0.0.1", &a.sin_addr)) {
            fprintf(stderr, "%s is no PORT and no IPV4:PORT, or one behind %d of them\n", each, NODES_MAX);
            exit(2);
        }
        nodes[node_count++] = a;
    }
    if (!node_count) exit(2);
}

static int open_socket(connection *c, int node, int epoll) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&nodes[node % node_count], sizeof nodes[0])) fail("connect");
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    return fd;
}

static void open_connection(connection *c, int number, int epoll) {
    c->fds[0] = c->fds[1] = open_socket(c, number, epoll);
    if (across) c->fds[1] = open_socket(c, number + 1, epoll);
    if (!c->answer) c->answer = malloc(ANSWER_MAX + 1);
}

static void put(connection *c) {
    c->got = 0;
    c->sent = 0;
    while (c->sent < c->length) {
        ssize_t n = write(c->fds[c->second], c->out + c->sent, c->length - c->sent);
        if (n < 0 && errno == EAGAIN) continue; /* requests are small: the buffer drains at once */
        if (n < 0) { errors++; return; }
        c->sent += n;
    }
}

static void take_request(connection *c) {
    if (c->second) c->request++;
    else {
        c->request = next_request % request_count;
        next_request += pair ? 2 : 1;
    }
    c->out = requests[c->request];
    c->length = lengths[c->request];
}

static void begin(connection *c, double scheduled) {
    c->busy = 1;
    c->second = 0;
    c->scheduled = scheduled;
    take_request(c);
    put(c);
}

/* Returns 1 when an answer is whole, -1 when it is none. */
static int whole(connection *c) {
    c->answer[c->got] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (!end) return 0;
    char *header = strcasestr(c->answer, "content-length:");
    if (!header || header > end) return -1;
    return c->got >= (size_t)(end + 4 - c->answer) + strtoul(header + 15, 0, 10);
}

static void follow(connection *c) {
    static const char mark[] = "@@@@@@@@@@@@@@@@";
    char *token = strstr(c->answer, "\"log_position\":\"");
    c->second = 1;
    take_request(c);
    char *place = memmem(c->out, c->length, mark, TOKEN);
    if (!token || !place) { errors++; c->busy = 0; return; }
    memcpy(place, token + 16, TOKEN);
    put(c);
    memcpy(place, mark, TOKEN);
}

static void finish(connection *c) {
    int is_refused = !strncmp(c->answer + 9, "503", 3) || !strncmp(c->answer + 9, "429", 3);
    refused += is_refused;
    if (strncmp(c->answer + 9, "200", 3)) {
        if (!(deadline > 0 && is_refused) && !errors++) fprintf(stderr, "first error: %.600s\n", c->answer);
        c->busy = 0;
        return;
    }
    if (pair && !c->second) { follow(c); return; }
    c->busy = 0;
    double latency = now() - c->scheduled;
    if (done < latencies_max) latencies[done] = latency;
    done++;
    good += latency <= deadline;
}

static void receive(connection *c) {
    ssize_t n = read(c->fds[c->second], c->answer + c->got, ANSWER_MAX - c->got);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN) return;
        fprintf(stderr, "the server closed a connection\n");
        exit(1);
    }
    c->got += n;
    int state = whole(c);
    if (state < 0) { errors++; c->busy = 0; }
    if (state > 0) finish(c);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(long n, double q) {
    if (!n) return 0;
    long i = (long)ceil(q * n) - 1;
    return latencies[i < 0 ? 0 : i] * 1e6;
}

int main(int argc, char **argv) {
    if (argc != 7 && argc != 8) { fprintf(stderr, "usage: http_load NODES FILE CONNECTIONS RATE SECONDS MODE [DEADLINE_MS]\n"); return 2; }
    int count = atoi(argv[3]);
    double rate = atof(argv[4]), seconds = atof(argv[5]);
    across = !strcmp(argv[6], "across");
    pair = across || !strcmp(argv[6], "pair");
    read_nodes(argv[1]);
    deadline = argc == 8 ? atof(argv[7]) / 1e3 : 0;
    if (count < 1 || count > CONNECTIONS_MAX || seconds <= 0 || seconds > 600) return 2;
    read_requests(argv[2]);
    latencies_max = 20 * 1000 * 1000;
    latencies = malloc(latencies_max * sizeof *latencies);
    int epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) open_connection(&connections[i], i, epoll);
    srand48(42);
    prctl(PR_SET_TIMERSLACK, 1);
    struct epoll_event events[CONNECTIONS_MAX];
    double start = now(), due = start, end = start + seconds, last = start;
    int busy = 1, next = 0;
    while (last < end || (busy && last < end + 10)) {
        busy = 0;
        /* In turn: a server may close a connection on which it waits for long, and one of the first is always free. */
        for (int i = 0, from = next; i < count; i++) {
            connection *c = &connections[(from + i) % count];
            if (!c->busy && last < end) {
                if (rate <= 0) begin(c, now());
                else if (due <= now() && due < end) {
                    begin(c, due);
                    next = (from + i + 1) % count;
                    due += -log(1 - drand48()) / rate;
                }
            }
            busy |= c->busy;
        }
        /* Sleeps until the next arrival, so that the core is free for what else the server's machine does. */
        double gap = rate > 0 && last < end ? due - now() : 0.001;
        struct timespec pause = {.tv_nsec = gap <= 0 ? 0 : gap < 0.001 ? (long)(gap * 1e9) : 1000000};
        int n = epoll_pwait2(epoll, events, CONNECTIONS_MAX, &pause, NULL);
        for (int i = 0; i < n; i++) receive(events[i].data.ptr);
        last = now();
    }
    long unsent = 0;
    for (; rate > 0 && due < end; due += -log(1 - drand48()) / rate) unsent++;
    long n = done < latencies_max ? done : latencies_max;
    qsort(latencies, n, sizeof *latencies, compare);
    if (deadline > 0) printf("{\"good\":%ld,\"unsent\":%ld,", good, unsent);
    printf("%s\"count\":%ld,\"refused\":%ld,\"errors\":%ld,\"seconds\":%.3f,\"per_second\":%.1f,\"unfinished\":%d,"
           "\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f}\n",
           deadline > 0 ? "" : "{", done, refused, errors, seconds, done / (rate > 0 ? seconds : last - start), busy, quantile(n, 0.5),
           quantile(n, 0.9), quantile(n, 0.99), quantile(n, 0.999), quantile(n, 1));
    return 0;
}
