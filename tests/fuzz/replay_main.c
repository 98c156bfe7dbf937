/* replay_main.c - runs a fuzz target over files, or folders of files, without libFuzzer: with any compiler, as a test, to
 * see that what was found once stays fixed. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fuzz.h"

/* replay: 1, or 0 when the file cannot be read. The copy has exactly its size, so that sanitizers see a read beyond. */
static int replay(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (!file || fstat(fileno(file), &status) < 0) {
        perror(path);
        if (file)
            fclose(file);
        return 0;
    }
    size_t size = (size_t)status.st_size;
    uint8_t *data = malloc(size ? size : 1);
    int done = data && fread(data, 1, size, file) == size;
    fclose(file);
    if (done)
        LLVMFuzzerTestOneInput(data, size);
    else
        fprintf(stderr, "%s: cannot be read\n", path);
    free(data);
    return done;
}

static int is_input(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* replay_folder: how many of its files ran; -1 when one of them, or the folder, cannot be read. */
static int replay_folder(const char *path) {
    struct dirent **entries;
    int count = scandir(path, &entries, is_input, alphasort), done = 0;
    if (count < 0) {
        perror(path);
        return -1;
    }
    for (int i = 0; i < count; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        done += replay(name);
        free(entries[i]);
    }
    free(entries);
    return done == count ? done : -1;
}

int main(int argc, char **argv) {
    int total = 0;
    for (int i = 1; i < argc; i++) {
        struct stat status;
        bool folder = stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode);
        int done = folder ? replay_folder(argv[i]) : replay(argv[i]);
        if (done <= 0)
            return 1;
        total += done;
    }
    printf("%d inputs\n", total);
    return total == 0; /* an empty corpus would prove nothing */
}
