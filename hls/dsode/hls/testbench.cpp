// testbench STATES RESULTS [EXPECTED]: runs the kernel over every state of a file, and compares.
//
// A file is four little-endian int32 (images, channels, height, width), then one signed byte a value in that
// order. Exit code 0; 1 where RESULTS differ from EXPECTED; 2 for a file or a stream that is not as it should be.
#include "dsode.hpp"

#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

struct Maps {
    int32_t shape[4];
    std::vector<signed char> values;
};

static Maps load(const char* path, int channels, int height, int width) {
    std::ifstream file(path, std::ios::binary);
    Maps maps;
    file.read(reinterpret_cast<char*>(maps.shape), sizeof maps.shape);
    maps.values.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    const int32_t* shape = maps.shape;
    if (!file || shape[1] != channels || shape[2] != height || shape[3] != width
        || maps.values.size() != static_cast<size_t>(shape[0]) * channels * height * width) {
        throw std::runtime_error(std::string(path) + ": not the states of this network");
    }
    return maps;
}

// Position of a value in a file: the stream goes pixel by pixel, a file channel by channel.
static size_t position(int image, int channel, int pixel, int channels, int pixels) {
    return (static_cast<size_t>(image) * channels + channel) * pixels + pixel;
}

static int simulate(int argc, char** argv) {
    if (argc < 3) {
        throw std::runtime_error("usage: testbench STATES RESULTS [EXPECTED]");
    }
    const Maps states = load(argv[1], INPUT_CHANNELS, INPUT_HEIGHT, INPUT_WIDTH);
    const int images = states.shape[0], in_pixels = INPUT_HEIGHT * INPUT_WIDTH;
    const int out_pixels = OUTPUT_HEIGHT * OUTPUT_WIDTH;
    hls::stream<Beat> input("input"), output("output");
    Maps results = {{images, OUTPUT_CHANNELS, OUTPUT_HEIGHT, OUTPUT_WIDTH}, {}};
    results.values.resize(static_cast<size_t>(images) * OUTPUT_CHANNELS * out_pixels);

    for (int first = 0; first < images; first += 16) {
        const int last = first + 16 < images ? first + 16 : images;
        for (int image = first; image < last; image++) {
            for (int pixel = 0; pixel < in_pixels; pixel++) {
                for (int channel = 0; channel < INPUT_CHANNELS; channel += BEAT) {
                    Beat beat;
                    for (int lane = 0; lane < BEAT; lane++) {
                        const size_t at = position(image, channel + lane, pixel, INPUT_CHANNELS, in_pixels);
                        beat.data.range(8 * lane + 7, 8 * lane) = static_cast<unsigned char>(states.values[at]);
                    }
                    beat.keep = -1;
                    beat.strb = -1;
                    beat.last = pixel == in_pixels - 1 && channel + BEAT == INPUT_CHANNELS;
                    input.write(beat);
                }
            }
        }
        dsode(input, output, last - first);
        for (int image = first; image < last; image++) {
            for (int pixel = 0; pixel < out_pixels; pixel++) {
                for (int channel = 0; channel < OUTPUT_CHANNELS; channel += BEAT) {
                    const Beat beat = output.read();
                    for (int lane = 0; lane < BEAT; lane++) {
                        const Value value(beat.data.range(8 * lane + 7, 8 * lane));
                        const size_t at = position(image, channel + lane, pixel, OUTPUT_CHANNELS, out_pixels);
                        results.values[at] = value;
                    }
                    if ((beat.last == 1) != (pixel == out_pixels - 1 && channel + BEAT == OUTPUT_CHANNELS)) {
                        throw std::runtime_error("TLAST is not on the last beat of an image");
                    }
                }
            }
        }
        if (!input.empty() || !output.empty()) {
            throw std::runtime_error("beats are left in a stream");
        }
    }

    std::ofstream file(argv[2], std::ios::binary);
    file.write(reinterpret_cast<const char*>(results.shape), sizeof results.shape);
    file.write(reinterpret_cast<const char*>(results.values.data()), results.values.size());
    if (!file.flush()) {
        throw std::runtime_error(std::string(argv[2]) + ": cannot be written");
    }
    if (argc == 3) {
        return 0;
    }
    const Maps expected = load(argv[3], OUTPUT_CHANNELS, OUTPUT_HEIGHT, OUTPUT_WIDTH);
    if (expected.shape[0] != images) {
        throw std::runtime_error(std::string(argv[3]) + ": another number of images");
    }
    size_t mismatches = 0;
    for (size_t i = 0; i < expected.values.size(); i++) {
        mismatches += expected.values[i] != results.values[i];
    }
    std::cout << mismatches << " of " << expected.values.size() << " values differ\n";
    return mismatches != 0;
}

int main(int argc, char** argv) {
    try {
        return simulate(argc, argv);
    } catch (const std::exception& error) {
        std::cerr << "testbench: " << error.what() << "\n";
        return 2;
    }
}
