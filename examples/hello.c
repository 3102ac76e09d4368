/* SPDX-License-Identifier: Apache-2.0
 *
 * The first steps with libfastblock: connect, open an image, write, read back, discard.
 *
 *     cc hello.c $(pkg-config --cflags --libs fastblock) -o hello
 *     FASTBLOCK_MON=127.0.0.1:6800 ./hello POOL/IMAGE
 */
#include <stdio.h>
#include <string.h>

#include <fastblock/fastblock.h>

static int fail(const char *what, const struct fb_conn *conn)
{
    fprintf(stderr, "%s: %s\n", what, fb_error(conn));
    return 1;
}

/* What an asynchronous request leaves behind. */
struct answer {
    int done, result;
};

static void answered(void *arg, int result)
{
    struct answer *answer = arg;

    answer->done = 1;
    answer->result = result;
}

static int say_hello(struct fb_conn *conn, struct fb_image *image)
{
    char text[64] = "hello, fastblock", back[64] = "";
    struct answer answer = {0, 0};

    /* Any offset, any length. The write is on stable media of a majority of its replicas when this returns.
     */
    if (fb_write(image, text, sizeof(text), 12345))
        return fail("write", conn);
    if (fb_read(image, back, sizeof(back), 12345))
        return fail("read", conn);
    printf("read back: %s\n", back);
    if (strcmp(text, back) != 0)
        return 1;

    /* The same without waiting: the callback runs inside fb_poll(). */
    if (fb_aio_read(image, back, sizeof(back), 12345, answered, &answer))
        return fail("read", conn);
    while (!answer.done)
        if (fb_poll(conn, -1) < 0)
            return fail("poll", conn);
    if (answer.result)
        return fail("read", conn);

    if (fb_discard(image, fb_size(image), 0))
        return fail("discard", conn);
    if (fb_read(image, back, sizeof(back), 12345))
        return fail("read", conn);
    printf("after discard: \"%s\"\n", back);
    return back[0] != '\0';
}

int main(int argc, char **argv)
{
    char error[256];
    struct fb_conn *conn;
    struct fb_image *image;

    if (argc != 2) {
        fprintf(stderr, "usage: %s POOL/IMAGE (its data is lost)\n", argv[0]);
        return 2;
    }
    if (fb_connect(NULL, &conn, error, sizeof(error))) {
        fprintf(stderr, "connect: %s\n", error);
        return 1;
    }
    int status;
    if (fb_open(conn, argv[1], 0, NULL, &image)) {
        status = fail(argv[1], conn);
    } else {
        printf("%s: %llu bytes\n", argv[1], (unsigned long long)fb_size(image));
        status = say_hello(conn, image);
        if (fb_close(image))
            status = fail("close", conn);
    }
    fb_disconnect(conn);
    return status;
}
